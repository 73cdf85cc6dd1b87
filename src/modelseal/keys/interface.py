"""What every key provider does, and what it never does (docs/keys.md).

A provider wraps and unwraps data keys. It never sees a manifest's content or a payload; it gets
the KEK context (docs/format.md, section 5.3), which binds a wrapped key to one model and seal.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from modelseal.envelope.recipients import Recipient
from modelseal.secret import Secret


@dataclass(frozen=True, kw_only=True)
class KeyDescription:
    """What can be said about a wrapped key without opening it."""

    kind: str
    key: str
    version: int | None
    """The version of the KEK that wrapped it, where the provider has versions."""


class KeyProvider(Protocol):
    """One way to wrap and unwrap data keys, configured for one key.

    Every method may raise `KeyServiceError` (not reachable) or `KeyRefused` (said no); each network
    call has a timeout and bounded tries. Calls are serialised by the provider and may come from
    any thread.
    """

    @property
    def kind(self) -> str:
        """The recipients' kind that this provider makes and opens."""

    def login(self) -> None:
        """Authenticate, or authenticate afresh; a no-op where there is nothing to log in to."""

    def matches(self, recipient: Recipient) -> bool:
        """Whether the recipient's kind and key equal this provider's configuration."""

    def wrap(self, dek: Secret, context: bytes) -> Recipient:
        """Wrap a data key of 32 bytes under the configured key, bound to `context`."""

    def unwrap(self, recipient: Recipient, context: bytes) -> Secret:
        """Open a recipient that `matches`; logs in first where needed.

        A refusal (`KeyRefused`) is raised only after it was confirmed once with a fresh login.

        Raises:
            UnwrapError: the wrapped key was altered, is for another context, or the key is wrong.

        """

    def rewrap(self, recipient: Recipient, context: bytes) -> Recipient:
        """Wrap the same data key under the newest version of the same key."""

    def may_unwrap(self) -> bool:
        """Whether `unwrap` could be allowed at all; `False` only where every context is refused."""

    def check(self, recipient: Recipient, context: bytes) -> None:
        """Ask whether `unwrap` would still be allowed, without moving key material where possible.

        Raises as `unwrap` would, so a `KeyRefused` from here ends the lease.
        """

    def describe(self, recipient: Recipient) -> KeyDescription:
        """Say which key and version wrapped it, from the recipient alone; no network."""

    @property
    def unwrap_id(self) -> str | None:
        """The id of the last `unwrap` in the key service's audit log, where there is one."""

    @property
    def token_expires(self) -> datetime | None:
        """When a fresh `login` is due (UTC); `None` where there is nothing to log in to."""


class Signer(Protocol):
    """Makes one signature over the DSSE pre-authentication encoding (docs/format.md, section 4)."""

    def sign(self, message: bytes) -> bytes:
        """Sign `message`; the algorithm belongs to the key."""

    @property
    def public(self) -> str:
        """The public key as a signer URI: `ed25519:BASE64` or `ecdsa-p256:BASE64`."""
