"""Key files and passphrases: keys without a key service (docs/keys.md, docs/format.md section 6).

The wrap is committing, so that one wrapped key cannot open under two keys: a commitment of the KEK
to the context is compared before anything is decrypted.
"""

import base64
import binascii
import hmac
import os
import stat
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from modelseal.contract import FORMAT
from modelseal.envelope.key_files import write_secret_key
from modelseal.envelope.recipients import Recipient
from modelseal.errors import (
    InputUnreadable,
    SettingsError,
    WrappedKeyInvalid,
    WrongKey,
    WrongPassphrase,
    shown,
)
from modelseal.keys.interface import KeyDescription
from modelseal.secret import Secret

KEK_LENGTH: Final = 32
SALT_LENGTH: Final = 16
_PREFIX: Final = b"modelseal-key-1:"
_MAX_KEY_FILE: Final = 256
_COMMITMENT_LENGTH: Final = 32
_NONCE_LENGTH: Final = 12
_SEALED_LENGTH: Final = 32 + 16
_WRAP_LENGTH: Final = _COMMITMENT_LENGTH + _NONCE_LENGTH + _SEALED_LENGTH
_KEY_ID_LENGTH: Final = 16
_PASSPHRASE: Final = "passphrase"  # noqa: S105 - a name

_STRETCHING: Final = threading.Lock()
"""OpenSSL's Argon2id waits for ever where several threads are in it (seen, cryptography 50.0)."""


def wrap_key(kek: Secret, dek: Secret, context: bytes) -> bytes:
    """Return the committing wrap of a data key, 92 bytes (format section 6.1)."""
    nonce = os.urandom(_NONCE_LENGTH)
    with _derived(kek, "wrap-key", 32) as key:
        sealed = AESGCM(key.buffer).encrypt(nonce, bytes(dek.buffer), context)
    return _commitment(kek) + nonce + sealed


def commits_to(kek: Secret, wrapped: bytes) -> bool:
    """Say whether a wrap was made with this KEK, in constant time."""
    return hmac.compare_digest(_commitment(kek), wrapped[:_COMMITMENT_LENGTH])


def unwrap_key(kek: Secret, wrapped: bytes, context: bytes) -> Secret:
    """Open a wrap whose KEK was found to be the right one.

    Raises:
        WrappedKeyInvalid: it was altered, or is for another model or seal.

    """
    nonce = wrapped[_COMMITMENT_LENGTH : _COMMITMENT_LENGTH + _NONCE_LENGTH]
    sealed = wrapped[_COMMITMENT_LENGTH + _NONCE_LENGTH :]
    dek = bytearray(len(sealed) - 16)
    try:
        with _derived(kek, "wrap-key", 32) as key:
            AESGCM(key.buffer).decrypt_into(nonce, sealed, context, dek)
        return Secret(dek)
    except InvalidTag:
        raise WrappedKeyInvalid(
            "failed to unwrap the data key: it was altered, or is for another model"
        ) from None
    finally:
        dek[:] = bytes(len(dek))


class KeyFileProvider:
    """A key file of 32 random bytes."""

    kind: Final = "file"
    token_expires: datetime | None = None
    unwrap_id: str | None = None

    def __init__(self, path: Path) -> None:
        self._path: Final = path

    def login(self) -> None:
        """Nothing to log in to."""

    def matches(self, recipient: Recipient) -> bool:
        """Whether the recipient is for a key file; which one is said when it is opened."""
        if recipient.kind != self.kind:
            return False
        with self._kek() as kek:
            return hmac.compare_digest(recipient.key.encode(), _key_id(kek).encode())

    def wrap(self, dek: Secret, context: bytes) -> Recipient:
        """Wrap under the key file's key."""
        with self._kek() as kek:
            wrapped = encode_wrap(wrap_key(kek, dek, context))
            return Recipient(kind=self.kind, key=_key_id(kek), wrapped=wrapped)

    def unwrap(self, recipient: Recipient, context: bytes) -> Secret:
        """Open a recipient; see `KeyProvider.unwrap`."""
        wrapped = decode_wrap(recipient.wrapped)
        with self._kek() as kek:
            if not commits_to(kek, wrapped):
                raise WrongKey("failed to unwrap the data key: the key file is another one")
            return unwrap_key(kek, wrapped, context)

    def rewrap(self, recipient: Recipient, context: bytes) -> Recipient:
        """Wrap again under the same key."""
        with self.unwrap(recipient, context) as dek:
            return self.wrap(dek, context)

    def may_unwrap(self) -> bool:
        """Nobody is there to refuse."""
        return True

    def check(self, recipient: Recipient, context: bytes) -> None:
        """Open it once more: a key file that was taken away ends the right."""
        self.unwrap(recipient, context).wipe()

    def describe(self, recipient: Recipient) -> KeyDescription:
        """Name the key; key files have no versions."""
        return KeyDescription(kind=self.kind, key=recipient.key, version=None)

    def _kek(self) -> Secret:
        return read_key_file(self._path)


class PassphraseProvider:
    """A passphrase, asked for once and stretched with Argon2id for each wrap."""

    kind: Final = _PASSPHRASE
    token_expires: datetime | None = None
    unwrap_id: str | None = None

    def __init__(self, read: Callable[[], Secret]) -> None:
        self._read: Final = read

    def login(self) -> None:
        """Nothing to log in to."""

    def matches(self, recipient: Recipient) -> bool:
        """Whether the recipient is for a passphrase."""
        return recipient.kind == self.kind and recipient.key == _PASSPHRASE

    def wrap(self, dek: Secret, context: bytes) -> Recipient:
        """Wrap under the passphrase, with a fresh salt."""
        salt = os.urandom(SALT_LENGTH)
        with self._kek(salt) as kek:
            wrapped = encode_wrap(salt + wrap_key(kek, dek, context))
        return Recipient(kind=self.kind, key=_PASSPHRASE, wrapped=wrapped)

    def unwrap(self, recipient: Recipient, context: bytes) -> Secret:
        """Open a recipient; see `KeyProvider.unwrap`."""
        data = decode_wrap(recipient.wrapped, SALT_LENGTH + _WRAP_LENGTH)
        salt, wrapped = data[:SALT_LENGTH], data[SALT_LENGTH:]
        with self._kek(salt) as kek:
            if not commits_to(kek, wrapped):
                raise WrongPassphrase("failed to unwrap the data key: the passphrase is wrong")
            return unwrap_key(kek, wrapped, context)

    def rewrap(self, recipient: Recipient, context: bytes) -> Recipient:
        """Wrap again under the same passphrase, with a fresh salt."""
        with self.unwrap(recipient, context) as dek:
            return self.wrap(dek, context)

    def may_unwrap(self) -> bool:
        """Nobody is there to refuse."""
        return True

    def check(self, recipient: Recipient, context: bytes) -> None:
        """Accept: a passphrase cannot be withdrawn."""

    def describe(self, recipient: Recipient) -> KeyDescription:
        """Name the way; passphrases have no versions."""
        return KeyDescription(kind=self.kind, key=recipient.key, version=None)

    def _kek(self, salt: bytes) -> Secret:
        with self._read() as passphrase:
            stretch = Argon2id(
                salt=salt, length=KEK_LENGTH, iterations=3, lanes=4, memory_cost=64 << 10
            )
            with _STRETCHING:
                return Secret(stretch.derive(bytes(passphrase.buffer)))


def generate_key_file(path: Path) -> None:
    """Write a new key file, readable by its owner only; an existing file is never overwritten.

    Raises:
        OutputFailed: it exists, or cannot be written.

    """
    with Secret(os.urandom(KEK_LENGTH)) as kek:
        line = _PREFIX + base64.b64encode(kek.buffer) + b"\n"
    write_secret_key(path, line)


def read_key_file(path: Path) -> Secret:
    """Read a key file.

    Raises:
        InputUnreadable: it cannot be read.
        SettingsError: it is not a key file; its content is never shown.

    """
    data = _read_key_file(path)
    kek = _decode(data.removeprefix(_PREFIX).strip()) if data.startswith(_PREFIX) else None
    if kek is None or len(kek) != KEK_LENGTH:
        raise SettingsError(
            f"failed to read the key file {shown(str(path))}: it is not a modelseal key",
            hint="make one with `modelseal keygen`",
        )
    return Secret(kek)


def _read_key_file(path: Path) -> bytes:
    """Return what an ordinary file holds; longer content is cut, which makes it no key."""
    reason = "it is not an ordinary file"
    try:
        with open(path, "rb", 0, opener=_open_at_once) as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                data: bytes = file.read(_MAX_KEY_FILE + 1)
                return data if len(data) <= _MAX_KEY_FILE else b""
    except OSError as error:
        reason = os.strerror(error.errno or 0)
    raise InputUnreadable(f"failed to read the key file {shown(str(path))}: {reason}")


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for whoever would write to a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def encode_wrap(wrapped: bytes) -> str:
    """Return the text form of a wrapped key."""
    return base64.b64encode(wrapped).decode("ascii")


def decode_wrap(text: str, length: int = _WRAP_LENGTH) -> bytes:
    """Return the bytes of a wrapped key.

    Raises:
        WrappedKeyInvalid: it is not canonical base64 of that many bytes.

    """
    data = _decode(text.encode("ascii", "replace"))
    if data is None or len(data) != length:
        raise WrappedKeyInvalid("failed to read the wrapped key: it is malformed")
    return data


def _decode(text: bytes) -> bytes | None:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data) == text else None


def _commitment(kek: Secret) -> bytes:
    with _derived(kek, "wrap-commitment", _COMMITMENT_LENGTH) as value:
        return bytes(value.buffer)


def _key_id(kek: Secret) -> str:
    with _derived(kek, "key-id", _KEY_ID_LENGTH) as value:
        return value.buffer.hex()


def _derived(kek: Secret, label: str, length: int) -> Secret:
    info = f"{FORMAT} {label}".encode()
    return Secret(HKDFExpand(SHA384(), length, info).derive(kek.buffer))
