"""The lease as values: when to check, when to log in, how long the runtime may go on.

No clock is read here; times are seconds of `CLOCK_BOOTTIME`, which goes on while a machine sleeps.

Two deadlines are kept apart. The *right* lasts `max_stale` seconds beyond its last confirmation, so
that an outage of the key service does not stop a model. What the *runtime* is told, `valid_for`,
is much shorter: the longest pause between two checks and a margin, or what is left of the right
where that is less. It is sent again at every check and at least once in `renewal` seconds, so a
hung agent is noticed soon; an agent that lives withdraws at once with `Revoke`.
"""

import math
from dataclasses import dataclass, replace
from typing import Final, Self

from modelseal.contract import MAX_TOKEN_TTL
from modelseal_sidecar.settings import LeaseSettings

JITTER: Final = 0.2
TOKEN_SHARE: Final = 1 / 2
"""The part of a token's life after which a new one is asked for, while the old one still serves."""
LOGIN_SPREAD: Final = 0.5
"""The part by which a login may come earlier, so that pods that began together drift apart."""
LOGIN_PAUSE: Final = 10.0
"""Seconds between two logins at least, where one was refused and the old token still serves."""
MARGIN: Final = 10.0
"""Seconds that a runtime waits for a late agent beyond the longest pause between two checks."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The lease at one moment; each event makes a new one."""

    settings: LeaseSettings
    confirmed: float
    """When the check that last confirmed the right was begun."""
    stale_at: float
    """When the right ends unless it is confirmed again."""
    next_check: float
    login_due: float
    """When the token is to be replaced; infinite where nobody logs in."""

    @classmethod
    def begin(cls, settings: LeaseSettings, *, now: float, factor: float) -> Self:
        """Start a lease from an opening whose unwrap began at `now`.

        The first check is anywhere within one interval, so that the key service sees an even line
        from the start where many pods began together.
        """
        return cls(
            settings=settings,
            confirmed=now,
            stale_at=now + settings.max_stale,
            next_check=now + settings.interval * factor,
            login_due=math.inf,
        )

    def scheduled(self, now: float, factor: float, *, login: bool) -> Self:
        """Plan the check after one that logged in or did not; `factor` in [0, 1) is the jitter.

        A login that failed comes with the next check; one that came due meanwhile does not wait.
        """
        spread = 1 - JITTER + 2 * JITTER * factor
        next_check = now + self.settings.interval * spread
        login_due = next_check if login and self.login_due <= now else self.login_due
        return replace(self, next_check=next_check, login_due=login_due)

    def confirm(self, begun: float) -> Self:
        """Note that the right was confirmed by a check that was begun at `begun`."""
        confirmed = max(self.confirmed, begun)
        return replace(self, confirmed=confirmed, stale_at=confirmed + self.settings.max_stale)

    def opened(self, now: float, token_seconds: float | None, factor: float) -> Self:
        """Note the login of the opening: the next one may come soon, for an even line again."""
        if token_seconds is None:
            return self
        longest = _longest(token_seconds)
        return replace(self, login_due=now + LOGIN_PAUSE + (longest - LOGIN_PAUSE) * factor)

    def logged_in(self, now: float, token_seconds: float | None, factor: float) -> Self:
        """Note a login and the life of its token; five minutes count at most.

        The next login is a check of its own, not the next one that is due anyway, so that the whole
        share of the token's life is left for a key service that cannot log anybody in. `factor` in
        [0, 1) makes it earlier.
        """
        if token_seconds is None:
            return replace(self, login_due=math.inf)
        pause = max(_longest(token_seconds) * (1 - LOGIN_SPREAD * factor), LOGIN_PAUSE)
        return replace(self, login_due=now + pause)

    @property
    def due(self) -> float:
        """When to ask the key service next, for a check or with a login."""
        return min(self.next_check, self.login_due)

    def with_settings(self, settings: LeaseSettings, now: float) -> Self:
        """Take over changed settings: a shorter interval acts at once, so does a longer max stale.

        A shorter max stale counts from now where it would have passed already, so that a right
        which could be confirmed does not end for want of a question.
        """
        if settings == self.settings:
            return self
        latest = now + settings.interval * (1 + JITTER)
        stale_at = self.confirmed + settings.max_stale
        if stale_at < self.stale_at:
            stale_at = min(self.stale_at, now + settings.max_stale)
        next_check = min(self.next_check, latest)
        return replace(self, settings=settings, stale_at=stale_at, next_check=next_check)

    @property
    def renewal(self) -> float:
        """Seconds after which the runtime has to hear from the agent again."""
        return self.settings.interval * (1 + JITTER)

    def valid_for(self, now: float, rest: float = math.inf) -> float:
        """Return what the runtime is told; `rest` limits it too (the seal's `notAfter`)."""
        return max(0.0, min(self.renewal + MARGIN, self.stale_at - now, rest))


def _longest(token_seconds: float) -> float:
    """Return how long a login may wait for its successor, in seconds."""
    life = min(max(token_seconds, 0.0), MAX_TOKEN_TTL)
    return max(life * TOKEN_SHARE, LOGIN_PAUSE)
