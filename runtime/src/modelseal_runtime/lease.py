"""Until when the model may stay loaded.

The clock is CLOCK_BOOTTIME, which goes on while the machine sleeps: a lease that ran out during a
sleep has run out.
"""

import time
from collections.abc import Callable
from typing import Final


def boottime() -> float:
    """Return the seconds since the machine was started, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """A deadline that the agent moves; without one, nothing may be served."""

    def __init__(self, now: Callable[[], float] = boottime) -> None:
        self._now: Final = now
        self._until = float("-inf")
        self._renewed = now()

    def renew(self, valid_for: float) -> None:
        """Let the model stay for `valid_for` seconds from now."""
        self._renewed = self._now()
        self._until = self._renewed + valid_for

    def left(self) -> float:
        """Return the seconds that are left, at least 0."""
        return max(0.0, self._until - self._now())

    def age(self) -> float:
        """Return the seconds since the last renewal, or since the start."""
        return self._now() - self._renewed

    @property
    def valid(self) -> bool:
        """Whether the model may be served now."""
        return self._now() < self._until
