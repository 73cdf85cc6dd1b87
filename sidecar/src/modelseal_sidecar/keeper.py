"""Asks whether the model may stay: one check of the lease, in whatever thread it is called."""

import logging
from collections.abc import Callable
from typing import Final, Protocol

from modelseal.envelope import Policy, Seal, check_policy
from modelseal.envelope.recipients import Recipient
from modelseal.errors import InputUnreadable, KeyNotFound, KeyRevoked, ModelsealError
from modelseal.keys.interface import KeyProvider
from modelseal_sidecar.logs import log
from modelseal_sidecar.status import utc_now

_KEYS_IN_FILES: Final = frozenset({"file"})


class Access(Protocol):
    """The way to the key service, which may change while the agent runs (its CA)."""

    def current(self) -> KeyProvider:
        """Return the provider to ask."""

    def refresh(self) -> KeyProvider:
        """Return a provider with the settings of now."""


class Keeper:
    """Checks the right to one opened seal; remembers the recipient that was found last."""

    def __init__(
        self,
        *,
        access: Access,
        seal: Seal,
        recipient: Recipient,
        context: bytes,
        read_again: Callable[[], Seal],
        policy: Callable[[], Policy],
    ) -> None:
        """Prepare checks.

        Args:
            access: the way to the key service.
            seal: the seal that was opened.
            recipient: the one that opened it.
            context: the KEK context of the seal.
            read_again: reads and verifies the sealed model's `seal.json` of now.
            policy: returns what is demanded of a seal now.

        """
        self._access: Final = access
        self._seal: Final = seal
        self._recipient = recipient
        self._context: Final = context
        self._read_again: Final = read_again
        self._policy: Final = policy

    @property
    def recipient(self) -> Recipient:
        """The recipient that the next check asks about."""
        return self._recipient

    @property
    def key_version(self) -> int | None:
        """The version of the key that wrapped that recipient, where the provider has versions."""
        return self._access.current().describe(self._recipient).version

    def check(self, *, login: bool) -> None:
        """Compare the seal with the policy of now, then ask the key service, logged in if due.

        Raises:
            PolicyViolation: the seal is no longer one of those that may be opened.
            KeyServiceError: it could not be asked.
            KeyRefused: the right has ended.
            UnwrapError: the wrapped key does not open any more.

        """
        check_policy(self._seal, self._policy(), utc_now())
        provider = self._access.refresh() if login else self._access.current()
        if login:
            provider.login()
        try:
            provider.check(self._recipient, self._context)
        except InputUnreadable as error:
            if provider.kind not in _KEYS_IN_FILES:
                raise  # a token that cannot be read now says nothing about rights
            raise KeyNotFound("failed to keep the model: the key file was taken away") from error
        except KeyRevoked:
            fresh = self._rewrapped(provider)
            if fresh is None:
                raise
            provider.check(fresh, self._context)
            self._recipient = fresh
            log(logging.INFO, "went on with a rewrapped key")
        else:
            if login:
                self._take_newer(provider)

    def token_seconds(self) -> float | None:
        """Return how long the token is still good; `None` where the provider needs none."""
        expires = self._access.current().token_expires
        return None if expires is None else (expires - utc_now()).total_seconds()

    def _take_newer(self, provider: KeyProvider) -> None:
        """Go over to a recipient that was rewrapped meanwhile, before its old version is forbidden.

        Looked for at each login only; the lease is good without it, so no failure counts.
        """
        fresh = self._rewrapped(provider)
        if fresh is None:
            return
        try:
            provider.check(fresh, self._context)
        except ModelsealError as error:
            log(logging.WARNING, "kept the earlier wrapped key", reason=error.reason)
            return
        self._recipient = fresh
        log(logging.INFO, "went over to a rewrapped key")

    def _rewrapped(self, provider: KeyProvider) -> Recipient | None:
        """Return this provider's recipient from today's `seal.json`, where it is another one.

        Only recipients may have changed: the envelope has to be the same, byte for byte.
        """
        try:
            seal = self._read_again()
        except ModelsealError as error:
            log(logging.WARNING, "could not read seal.json again", reason=error.reason)
            return None
        if seal.envelope != self._seal.envelope or seal.mac != self._seal.mac:
            log(logging.WARNING, "seal.json is of another seal now")
            return None
        found = next((each for each in seal.recipients if provider.matches(each)), None)
        return None if found == self._recipient else found
