"""Signatures over the manifest (docs/format.md, section 4).

The algorithm belongs to the pinned key: nothing in a file chooses it. A key id is a hint that
nothing here depends on.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256

from modelseal import contract
from modelseal.envelope.dsse import pre_authentication
from modelseal.envelope.key_files import read_key_file, write_key_pair
from modelseal.envelope.manifest import Seal
from modelseal.envelope.public_key import ECDSA_P256, ED25519, PublicKey
from modelseal.errors import SettingsError, SignatureInvalid, SignatureMissing, shown

_Private = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


def verify_signature(
    seal: Seal, pinned: Sequence[PublicKey], *, allow_unsigned: bool = False
) -> PublicKey | None:
    """Check that a pinned key signed the manifest, and return that key.

    Where keys are pinned, one of them must have signed, whatever `allow_unsigned` says: otherwise
    whoever strips the signatures would be believed. Without pinned keys nothing is checked, which
    must be allowed in so many words; then the result is `None`.

    Raises:
        SignatureMissing: there is no signature, and one is required.
        SignatureInvalid: none of the signatures is valid under a pinned key.

    """
    envelope = seal.envelope
    if not pinned and allow_unsigned:
        return None
    if not envelope.signatures:
        raise SignatureMissing("failed to verify the manifest: it is not signed")
    if not pinned:
        raise SignatureInvalid(
            "failed to verify the manifest: no signer is pinned",
            hint="name the public key of whoever seals (--signer), or allow unsigned models",
        )
    if envelope.payload_type != contract.MANIFEST_TYPE:
        raise SignatureInvalid("failed to verify the manifest: what was signed is another type")
    message = pre_authentication(envelope.payload_type, envelope.payload)
    for key in pinned:
        if any(key.verifies(one.sig, message) for one in envelope.signatures):
            return key
    raise SignatureInvalid("failed to verify the manifest: no signature is by a pinned signer")


class LocalSigner:
    """Signs with a private key from a file (PKCS #8 in PEM); a `keys.interface.Signer`."""

    def __init__(self, key: _Private) -> None:
        self._key = key
        self._public = PublicKey.of(key.public_key())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Load a private key.

        Raises:
            InputUnreadable: the file cannot be read.
            SettingsError: it does not hold an unencrypted private key of a known kind.

        """
        try:
            key = serialization.load_pem_private_key(read_key_file(path), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise SettingsError(
                f"failed to read {shown(str(path))}: it is no unencrypted PEM private key",
                hint="make one with `modelseal keygen --type ed25519`",
            ) from error
        if not isinstance(key, _Private):
            raise SettingsError(
                f"failed to read {shown(str(path))}: neither an Ed25519 nor an ECDSA P-256 key"
            )
        return cls(key)

    @classmethod
    def generate(cls, path: Path, algorithm: str = ED25519) -> Self:
        """Make a key pair: the private key in `path`, readable by its owner, and `path`.pub.

        Raises:
            SettingsError: the algorithm is neither `ed25519` nor `ecdsa-p256`.
            OutputFailed: one of the two files exists already or cannot be written; none is left.

        """
        key: _Private
        if algorithm == ED25519:
            key = ed25519.Ed25519PrivateKey.generate()
        elif algorithm == ECDSA_P256:
            key = ec.generate_private_key(ec.SECP256R1())
        else:
            raise SettingsError(f"failed to make a key: {shown(algorithm)} is not known")
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        write_key_pair(path, private, public)
        return cls(key)

    @property
    def public(self) -> str:
        """The public key as a signer URI."""
        return self._public.uri

    def sign(self, message: bytes) -> bytes:
        """Sign a pre-authentication encoding; an ECDSA signature is DER."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(message)
        return self._key.sign(message, ec.ECDSA(SHA256()))
