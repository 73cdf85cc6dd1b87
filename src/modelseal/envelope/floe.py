"""C2SP FLOE with AES-256-GCM and HKDF-Expand-SHA-384 (docs/format.md, section 8.1).

The construction is the published one, unchanged: https://github.com/C2SP/C2SP/blob/main/FLOE.md.
The segment length and the rotation of keys are parameters, so that the known answers run through
the same code; the format fixes both. No I/O happens here, and randomness is passed in.
"""

import hmac
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from modelseal.errors import KeyCommitmentMismatch, SegmentInvalid
from modelseal.secret import Secret

Random = Callable[[int], bytes]
"""Returns that many random bytes; `os.urandom` outside of tests."""

IV_LENGTH: Final = 32
HEADER_LENGTH: Final = 10 + IV_LENGTH + 32
NONCE_LENGTH: Final = 12
OVERHEAD: Final = 4 + NONCE_LENGTH + 16
_NOT_FINAL: Final = 0xFFFFFFFF


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """One parameter set: the bytes of a full encrypted segment, and how often keys rotate."""

    segment_length: int
    rotation_bits: int
    """Each key encrypts `2 ** rotation_bits` segments."""

    @property
    def encoded(self) -> bytes:
        """The first ten bytes of every header: algorithms, segment length, IV length."""
        return struct.pack(">BBII", 0, 0, self.segment_length, IV_LENGTH)

    @property
    def capacity(self) -> int:
        """Plaintext bytes of a full segment."""
        return self.segment_length - OVERHEAD

    def segments(self, length: int) -> int:
        """Return the number of segments of `length` plaintext bytes in the only encoding we use.

        The last segment is never empty, but for an empty plaintext.
        """
        return max(1, -(-length // self.capacity))

    def ciphertext_length(self, length: int) -> int:
        """Return the bytes of a whole ciphertext, header included."""
        return HEADER_LENGTH + length + OVERHEAD * self.segments(length)


GCM256_IV256_1M: Final = Parameters(segment_length=1 << 20, rotation_bits=20)
"""The parameter set of the format."""


class Cipher:
    """Encrypts and decrypts the segments of one ciphertext, in any order and from any thread.

    The caller says which position a segment has and whether it is the last: both come from the
    signed length, never from the segment (section 8.3).
    """

    def __init__(self, key: Secret, aad: bytes, iv: bytes, parameters: Parameters) -> None:
        self._parameters = parameters
        self._prefix = parameters.encoded + iv
        self._aad = aad
        self._lock = threading.Lock()
        self._epochs: dict[int, AESGCM] = {}
        tag = _expand(key.buffer, self._prefix + b"HEADER_TAG:" + aad, 32)
        self._header = self._prefix + bytes(tag)
        self._message_key = Secret(_expand(key.buffer, self._prefix + b"MESSAGE_KEY:" + aad, 48))

    @classmethod
    def start(cls, key: Secret, aad: bytes, parameters: Parameters, random: Random) -> Self:
        """Begin a new ciphertext under a fresh IV."""
        return cls(key, aad, random(IV_LENGTH), parameters)

    @classmethod
    def open(cls, key: Secret, aad: bytes, header: bytes, parameters: Parameters) -> Self:
        """Begin to read the ciphertext that has this header.

        Raises:
            KeyCommitmentMismatch: other parameters, another key or other associated data made it.

        """
        iv = header[len(parameters.encoded) :][:IV_LENGTH]
        cipher = cls(key, aad, iv, parameters)
        if not hmac.compare_digest(cipher.header, header):
            cipher.wipe()
            raise KeyCommitmentMismatch("failed to open a payload: its header is of another key")
        return cipher

    @property
    def header(self) -> bytes:
        """The 74 bytes before the first segment; their last 32 commit to key and context."""
        return self._header

    def encrypt(
        self, position: int, plain: memoryview, segment: memoryview, *, final: bool, nonce: bytes
    ) -> None:
        """Encrypt one segment; `segment` has exactly `OVERHEAD` bytes more than `plain`."""
        struct.pack_into(">I", segment, 0, len(segment) if final else _NOT_FINAL)
        segment[4:16] = nonce
        aead = self._aead(position)
        aead.encrypt_into(nonce, plain, _segment_aad(position, final), segment[16:])

    def decrypt(
        self, position: int, segment: memoryview, plain: memoryview, *, final: bool
    ) -> None:
        """Decrypt one segment into `plain`, which has exactly `OVERHEAD` bytes less.

        On failure `plain` holds what did not authenticate: the caller wipes it.

        Raises:
            SegmentInvalid: it is malformed, altered, or of another position or payload.

        """
        (length,) = struct.unpack_from(">I", segment)
        if length != (len(segment) if final else _NOT_FINAL):
            raise SegmentInvalid(f"failed to decrypt segment {position}: its length field is wrong")
        aead = self._aead(position)
        try:
            aead.decrypt_into(
                bytes(segment[4:16]), segment[16:], _segment_aad(position, final), plain
            )
        except InvalidTag:
            raise SegmentInvalid(
                f"failed to decrypt segment {position}: it does not authenticate"
            ) from None

    def wipe(self) -> None:
        """Forget the keys; idempotent."""
        self._message_key.wipe()
        self._epochs.clear()

    def _aead(self, position: int) -> AESGCM:
        epoch = position >> self._parameters.rotation_bits << self._parameters.rotation_bits
        with self._lock:
            if epoch not in self._epochs:
                info = self._prefix + b"DEK:" + struct.pack(">Q", epoch) + self._aad
                with Secret(_expand(self._message_key.buffer, info, 32)) as key:
                    self._epochs[epoch] = AESGCM(key.buffer)
            return self._epochs[epoch]


def _segment_aad(position: int, final: bool) -> bytes:
    return struct.pack(">QB", position, final)


def _expand(key: bytearray, info: bytes, length: int) -> bytearray:
    derived = bytearray(length)
    HKDFExpand(SHA384(), length, info).derive_into(key, derived)
    return derived
