"""From the data key to the keys in use, and the KEK's context (docs/format.md, section 5)."""

import hmac
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from modelseal import contract
from modelseal.envelope.dsse import pre_authentication
from modelseal.envelope.manifest import Seal
from modelseal.errors import ManifestMacMismatch, WrappedKeyInvalid
from modelseal.secret import Secret

DEK_LENGTH: Final = 32
_FORMAT: Final = contract.FORMAT.encode("ascii")


def kek_context(model: str, seal_id: bytes) -> bytes:
    """Return the raw bytes that bind a wrapped data key to one model and seal (section 5.3).

    The name is padded so that `seal_id` starts at a multiple of three: the base64 of everything
    before it is then a prefix of the whole, which a key service's policy can pin.

    Args:
        model: the name that the reader was configured with, never one read from a file.
        seal_id: the 32 bytes of the manifest.

    """
    prefix = _FORMAT + b"\0" + model.encode("ascii")
    return prefix + bytes(3 - len(prefix) % 3) + seal_id


def payload_context(seal_id: bytes, number: int, count: int, length: int) -> bytes:
    """Return the associated data of one payload (section 5.2)."""
    return _FORMAT + b"\0" + seal_id + struct.pack(">IIQ", number, count, length)


class DataKeys:
    """The two keys that come from a data key; wiped when the block is left."""

    def __init__(self, *, manifest_mac: Secret, payload: Secret) -> None:
        self.manifest_mac: Final = manifest_mac
        self.payload: Final = payload

    @classmethod
    def from_dek(cls, dek: Secret, seal_id: bytes) -> Self:
        """Derive both keys; the caller keeps and wipes `dek`.

        Raises:
            WrappedKeyInvalid: the data key has not 32 bytes.

        """
        if len(dek) != DEK_LENGTH:
            raise WrappedKeyInvalid(f"failed to use the data key: it has {len(dek)} bytes")
        return cls(
            manifest_mac=_derive(dek, b"manifest-mac", seal_id, 48),
            payload=_derive(dek, b"floe", seal_id, 32),
        )

    def mac(self, payload_type: str, payload: bytes) -> bytes:
        """Return the MAC of a manifest: HMAC-SHA-384 over its pre-authentication encoding."""
        message = pre_authentication(payload_type, payload)
        return hmac.digest(self.manifest_mac.buffer, message, "sha384")

    def wipe(self) -> None:
        """Overwrite both keys with zeros; idempotent."""
        self.manifest_mac.wipe()
        self.payload.wipe()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wipe()


def verify_mac(seal: Seal, keys: DataKeys) -> None:
    """Check that whoever made the manifest knew this data key (section 5.2).

    Raises:
        ManifestMacMismatch: it is another key's manifest.

    """
    expected = keys.mac(seal.envelope.payload_type, seal.envelope.payload)
    if not hmac.compare_digest(expected, seal.mac):
        raise ManifestMacMismatch("failed to verify the manifest: its MAC is not of this data key")


KeySource = Callable[[], DataKeys]
"""Returns the keys, and blocks until they have been unwrapped and the MAC was verified."""


def _derive(dek: Secret, label: bytes, seal_id: bytes, length: int) -> Secret:
    derived = bytearray(length)
    info = _FORMAT + b" " + label + b"\0" + seal_id
    HKDFExpand(SHA384(), length, info).derive_into(dek.buffer, derived)
    secret = Secret(derived)
    derived[:] = bytes(length)
    return secret
