"""A key-encryption key kept as a secret in KV version 2 (docs/keys.md).

Weaker than transit: the KEK enters this process, no policy can bind it to a model, and withdrawal
is the destruction of the version or a change of policy.
"""

import base64
import re
from datetime import datetime
from typing import Any, Final

from modelseal.envelope import Recipient
from modelseal.errors import (
    KeyNotFound,
    KeyServiceProtocolError,
    WrappedKeyInvalid,
    WrongKey,
)
from modelseal.keys.interface import KeyDescription
from modelseal.keys.local import commits_to, decode_wrap, encode_wrap, unwrap_key, wrap_key
from modelseal.keys.uri import KeyUri
from modelseal.keys.vault import Conversation, VaultClient
from modelseal.secret import Secret

KIND: Final = "vault-kv"
KEK_LENGTH: Final = 32
_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}")


class VaultKvProvider:
    """One field of one secret; the recipient names its version."""

    kind: Final = KIND

    def __init__(self, client: VaultClient, uri: KeyUri) -> None:
        self._client: Final = client
        self._uri: Final = uri
        self._name: Final = f"{uri.mount}/{uri.path}#{uri.field}"
        self._unwrap_id: str | None = None

    @property
    def unwrap_id(self) -> str | None:
        """The id in the audit log of the request that read the key."""
        return self._unwrap_id

    @property
    def token_expires(self) -> datetime | None:
        """When a fresh login is due."""
        return self._client.expires

    def login(self) -> None:
        """Log in afresh."""
        self._client.login()

    def matches(self, recipient: Recipient) -> bool:
        """Whether the recipient names this secret, and the pinned version where one is pinned."""
        version = self._version(recipient)
        return version is not None and self._uri.version in (None, version)

    def wrap(self, dek: Secret, context: bytes) -> Recipient:
        """Wrap under the pinned or the current version."""
        version, kek = self._read(self._uri.version)
        with kek:
            wrapped = encode_wrap(wrap_key(kek, dek, context))
        return Recipient(kind=self.kind, key=f"{self._name}@{version}", wrapped=wrapped)

    def unwrap(self, recipient: Recipient, context: bytes) -> Secret:
        """Open a recipient; see `KeyProvider.unwrap`."""
        version = self._version(recipient)
        if version is None:
            raise WrappedKeyInvalid("failed to read the wrapped key: it names no version")
        wrapped = decode_wrap(recipient.wrapped)
        with self._read(version)[1] as kek:
            if not commits_to(kek, wrapped):
                raise WrongKey("failed to unwrap the data key: the secret is another key")
            self._unwrap_id = self._client.last_id
            return unwrap_key(kek, wrapped, context)

    def rewrap(self, recipient: Recipient, context: bytes) -> Recipient:
        """Wrap under the pinned or the current version; the data key passes through here."""
        with self.unwrap(recipient, context) as dek:
            return self.wrap(dek, context)

    def may_unwrap(self) -> bool:
        """Not known before it is tried."""
        return True

    def check(self, recipient: Recipient, context: bytes) -> None:
        """Read the key once more; KV has no gentler way to ask."""
        self.unwrap(recipient, context).wipe()

    def describe(self, recipient: Recipient) -> KeyDescription:
        """Read the version off the recipient."""
        return KeyDescription(kind=self.kind, key=recipient.key, version=self._version(recipient))

    def _version(self, recipient: Recipient) -> int | None:
        """Return the version that a recipient for this very secret names."""
        name, _, version = recipient.key.rpartition("@")
        if recipient.kind != self.kind or name != self._name:
            return None
        return int(version) if _VERSION.fullmatch(version) else None

    def _read(self, version: int | None) -> tuple[int, Secret]:
        answer = self._client.ask(lambda client: self._fetch(client, version))
        data = answer.get("data")
        inner, metadata = (
            (data.get("data"), data.get("metadata")) if isinstance(data, dict) else (None, None)
        )
        found = metadata.get("version") if isinstance(metadata, dict) else None
        if type(found) is not int or (version is not None and found != version):
            raise KeyServiceProtocolError("failed to read the key: the answer has no version")
        text = inner.get(self._uri.field) if isinstance(inner, dict) else None
        if text is None:
            raise KeyNotFound("failed to read the key: the secret has no such field")
        return found, _kek(text)

    def _fetch(self, client: Conversation, version: int | None) -> dict[str, Any]:
        answer: dict[str, Any] = client.secrets.kv.v2.read_secret_version(
            path=self._uri.path,
            mount_point=self._uri.mount,
            version=version,
            raise_on_deleted_version=True,
        )
        return answer


def _kek(text: object) -> Secret:
    try:
        raw = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        raw = b""
    if len(raw) != KEK_LENGTH:
        raise KeyServiceProtocolError(
            "failed to read the key: the field is not the base64 of 32 bytes",
            hint='store one: bao kv put MOUNT/PATH FIELD="$(head -c 32 /dev/urandom | base64)"',
        )
    return Secret(raw)
