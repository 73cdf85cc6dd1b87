"""Transit keys of Vault and OpenBao: the KEK never leaves the key service (docs/keys.md).

The mount's keys are made with `derived=true`; every call carries the KEK context, so that the
service's policy can pin the model and its audit log can name it.
"""

import base64
import re
from datetime import datetime
from typing import Any, Final

from modelseal.envelope import PublicKey, Recipient, parse_signer
from modelseal.errors import (
    KeyAccessDenied,
    KeyServiceProtocolError,
    SettingsError,
    WrappedKeyInvalid,
)
from modelseal.keys.interface import KeyDescription
from modelseal.keys.vault import Conversation, VaultClient
from modelseal.secret import Secret

KIND: Final = "vault-transit"
DEK_LENGTH: Final = 32
MAX_WRAPPED_LENGTH: Final = 4096
_WRAPPED: Final = re.compile(r"vault:v([1-9][0-9]{0,8}):[A-Za-z0-9+/=]+")


class VaultTransitProvider:
    """One transit key."""

    kind: Final = KIND

    def __init__(self, client: VaultClient, *, mount: str, key: str) -> None:
        self._client: Final = client
        self._mount: Final = mount
        self._key: Final = key
        self._unwrap_id: str | None = None

    @property
    def unwrap_id(self) -> str | None:
        """The request's id in the audit log."""
        return self._unwrap_id

    @property
    def token_expires(self) -> datetime | None:
        """When a fresh login is due."""
        return self._client.expires

    def login(self) -> None:
        """Log in afresh."""
        self._client.login()

    def matches(self, recipient: Recipient) -> bool:
        """Whether the recipient names this mount and key."""
        return recipient.kind == self.kind and recipient.key == f"{self._mount}/{self._key}"

    def wrap(self, dek: Secret, context: bytes) -> Recipient:
        """Let the key service encrypt the data key."""
        answer = self._ask("encrypt_data", plaintext=_base64(dek.buffer), context=context)
        return self._recipient(answer)

    def unwrap(self, recipient: Recipient, context: bytes) -> Secret:
        """Let the key service decrypt; see `KeyProvider.unwrap`."""
        _require_wrapped(recipient)
        answer = self._ask("decrypt_data", ciphertext=recipient.wrapped, context=context)
        self._unwrap_id = self._client.last_id
        return _data_key(answer.get("plaintext"))

    def rewrap(self, recipient: Recipient, context: bytes) -> Recipient:
        """Wrap anew inside the key service; the data key does not leave it."""
        _require_wrapped(recipient)
        answer = self._ask("rewrap_data", ciphertext=recipient.wrapped, context=context)
        return self._recipient(answer)

    def may_unwrap(self) -> bool:
        """Ask for the right to decrypt; a service that does not tell may allow it."""
        try:
            return self._client.ask(lambda client: _may_update(client, self._decrypt_path))
        except KeyAccessDenied:
            return True

    def check(self, recipient: Recipient, context: bytes) -> None:
        """Ask for a rewrap, whose result is dropped, and for the right to decrypt.

        No key material moves, and the audit log shows no further opening.
        """
        self.rewrap(recipient, context)
        self._client.ask(lambda client: _require_update(client, self._decrypt_path))

    def describe(self, recipient: Recipient) -> KeyDescription:
        """Read the key's version off the wrapped key."""
        match = _WRAPPED.fullmatch(recipient.wrapped)
        version = int(match[1]) if match else None
        return KeyDescription(kind=self.kind, key=recipient.key, version=version)

    @property
    def _decrypt_path(self) -> str:
        return f"{self._mount}/decrypt/{self._key}"

    def _ask(self, method: str, *, context: bytes, **arguments: str) -> dict[str, Any]:
        def call(client: Conversation) -> dict[str, Any]:
            answer = getattr(client.secrets.transit, method)(
                name=self._key, mount_point=self._mount, context=_base64(context), **arguments
            )
            return _data(answer)

        return self._client.ask(call)

    def _recipient(self, answer: dict[str, Any]) -> Recipient:
        wrapped = answer.get("ciphertext")
        if (
            not isinstance(wrapped, str)
            or len(wrapped) > MAX_WRAPPED_LENGTH
            or not _WRAPPED.fullmatch(wrapped)
        ):
            raise KeyServiceProtocolError(
                "failed to wrap the data key: the answer is no wrapped key"
            )
        return Recipient(kind=self.kind, key=f"{self._mount}/{self._key}", wrapped=wrapped)


class VaultSigner:
    """A transit key that signs: Ed25519 or ECDSA P-256."""

    def __init__(self, client: VaultClient, *, mount: str, key: str) -> None:
        self._client: Final = client
        self._mount: Final = mount
        self._key: Final = key
        self._found: tuple[int, PublicKey] | None = None

    @property
    def public(self) -> str:
        """The newest version's public key as a signer URI; asked for once."""
        return self._newest()[1].uri

    def _newest(self) -> tuple[int, PublicKey]:
        if self._found is None:
            self._found = self._client.ask(self._read_public)
        return self._found

    def sign(self, message: bytes) -> bytes:
        """Let the key service sign with the version of `public`; ECDSA is DER over SHA-256."""
        version, public = self._newest()
        ecdsa = public.uri.startswith("ecdsa")
        arguments = {"marshaling_algorithm": "asn1", "hash_algorithm": "sha2-256"} if ecdsa else {}

        def call(client: Conversation) -> bytes:
            answer = client.secrets.transit.sign_data(
                name=self._key,
                mount_point=self._mount,
                hash_input=_base64(message),
                key_version=version,
                **arguments,
            )
            return _signature(_data(answer).get("signature"))

        return self._client.ask(call)

    def _read_public(self, client: Conversation) -> tuple[int, PublicKey]:
        data = _data(client.secrets.transit.read_key(name=self._key, mount_point=self._mount))
        keys, newest = data.get("keys"), data.get("latest_version")
        entry = keys.get(str(newest)) if isinstance(keys, dict) else None
        text = entry.get("public_key") if isinstance(entry, dict) else None
        kind = data.get("type")
        if kind not in ("ed25519", "ecdsa-p256"):
            raise SettingsError(
                "failed to sign: the transit key is neither ed25519 nor ecdsa-p256",
                hint="make a signing key: bao write -f transit/keys/NAME type=ed25519",
            )
        try:
            if type(newest) is int and kind == "ed25519":
                return newest, parse_signer(f"ed25519:{text}")
            if type(newest) is int:
                return newest, PublicKey.from_pem(str(text))
        except SettingsError:
            pass
        raise KeyServiceProtocolError("failed to sign: the answer holds no public key")


def _may_update(client: Conversation, path: str) -> bool:
    rights = _data(client.sys.get_capabilities(paths=[path])).get(path)
    return isinstance(rights, list) and bool({"update", "root"} & {str(each) for each in rights})


def _require_update(client: Conversation, path: str) -> None:
    if not _may_update(client, path):
        raise KeyAccessDenied("failed to keep the lease: the right to decrypt was withdrawn")


def _require_wrapped(recipient: Recipient) -> None:
    if not _WRAPPED.fullmatch(recipient.wrapped):
        raise WrappedKeyInvalid("failed to read the wrapped key: it is malformed")


def _data(answer: Any) -> dict[str, Any]:
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, dict):
        raise KeyServiceProtocolError("failed to use the key service: its answer holds no data")
    return data


def _data_key(text: object) -> Secret:
    try:
        raw = (
            bytearray(base64.b64decode(text, validate=True))
            if isinstance(text, str)
            else bytearray()
        )
    except ValueError:
        raw = bytearray()
    if len(raw) != DEK_LENGTH:
        raise KeyServiceProtocolError("failed to unwrap the data key: it has not 32 bytes")
    try:
        return Secret(raw)
    finally:
        raw[:] = bytes(len(raw))


def _signature(text: object) -> bytes:
    match = _WRAPPED.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise KeyServiceProtocolError("failed to sign: the answer is no signature")
    try:
        return base64.b64decode(str(text).rsplit(":", 1)[1], validate=True)
    except ValueError:
        raise KeyServiceProtocolError("failed to sign: the answer is no signature") from None


def _base64(data: bytes | bytearray) -> str:
    return base64.b64encode(data).decode("ascii")
