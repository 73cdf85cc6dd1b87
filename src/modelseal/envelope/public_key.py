"""Pinned signers: public keys as literals or files (docs/format.md, section 4.2)."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256

from modelseal.envelope.key_files import read_key_file
from modelseal.envelope.strict import decode_base64, encode_base64
from modelseal.errors import SettingsError, shown

ED25519: Final = "ed25519"
ECDSA_P256: Final = "ecdsa-p256"
_EXPECTED: Final = "give ed25519:BASE64, ecdsa-p256:BASE64 or file:PATH.pub"

_Loaded = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, kw_only=True)
class PublicKey:
    """A signer's public key: 32 raw bytes for Ed25519, a SubjectPublicKeyInfo for P-256."""

    algorithm: str
    data: bytes

    @property
    def uri(self) -> str:
        """The one text form of the key, such as `ed25519:BASE64`."""
        return f"{self.algorithm}:{encode_base64(self.data)}"

    @property
    def keyid(self) -> str:
        """Hexadecimal SHA-256 of the key's SubjectPublicKeyInfo."""
        return hashlib.sha256(_info(_load(self.algorithm, self.data))).hexdigest()

    @classmethod
    def from_pem(cls, text: str, *, name: str = "a public key") -> Self:
        """Read a PEM `PUBLIC KEY`, as OpenSSL and key services write it; `name` is for messages.

        Raises:
            SettingsError: it is not a public key of a known kind.

        """
        try:
            return cls.of(serialization.load_pem_public_key(text.encode("utf-8")))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise SettingsError(
                f"failed to read {name}: it is no public key in PEM", hint=_EXPECTED
            ) from error

    @classmethod
    def from_raw(cls, algorithm: str, data: bytes) -> Self:
        """Read the bytes that a signer URI holds.

        Raises:
            SettingsError: they are not the canonical form of a key of this algorithm.

        """
        try:
            key = cls.of(_load(algorithm, data))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise SettingsError(
                f"failed to read a signer: it is no {algorithm} key", hint=_EXPECTED
            ) from error
        if key.algorithm != algorithm or key.data != data:
            raise SettingsError(
                f"failed to read a signer: it is no canonical {algorithm} key", hint=_EXPECTED
            )
        return key

    @classmethod
    def of(cls, key: object) -> Self:
        """Take a key of the cryptography library.

        Raises:
            SettingsError: it is neither Ed25519 nor ECDSA on P-256.

        """
        if isinstance(key, ed25519.Ed25519PublicKey):
            return cls(algorithm=ED25519, data=key.public_bytes_raw())
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
            return cls(algorithm=ECDSA_P256, data=_info(key))
        raise SettingsError(
            "failed to read a public key: neither Ed25519 nor ECDSA P-256", hint=_EXPECTED
        )

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether a signature is this key's; a malformed one is not."""
        key = _load(self.algorithm, self.data)
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(signature, message)
            else:
                key.verify(signature, message, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


def parse_signer(uri: str) -> PublicKey:
    """Read a signer as settings name it: `ed25519:B64`, `ecdsa-p256:B64` or `file:PATH.pub`.

    Raises:
        SettingsError: it is not one of these.
        InputUnreadable: the named file cannot be read.

    """
    kind, _, rest = uri.partition(":")
    if kind == "file" and rest and "\0" not in rest:
        text = read_key_file(Path(rest)).decode("utf-8", "replace")
        return PublicKey.from_pem(text, name=shown(rest))
    if kind not in (ED25519, ECDSA_P256):
        raise SettingsError(f"failed to read the signer {shown(uri)}: unknown kind", hint=_EXPECTED)
    data = decode_base64(rest)
    if data is None:
        raise SettingsError(
            f"failed to read the signer {shown(uri)}: not canonical base64", hint=_EXPECTED
        )
    return PublicKey.from_raw(kind, data)


def _load(algorithm: str, data: bytes) -> _Loaded:
    if algorithm == ED25519:
        return ed25519.Ed25519PublicKey.from_public_bytes(data)
    key = serialization.load_der_public_key(data)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("not an elliptic curve key")
    return key


def _info(key: _Loaded) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
