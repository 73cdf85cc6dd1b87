"""A queue of keys: de-duplicating, one worker per key at a time, delayed retries with backoff.

The semantics are those of the work queues of Kubernetes' own controllers: a key that is added
while it is being worked on runs once more afterwards; a key that keeps failing waits longer each
time, and holds up nobody else.
"""

import asyncio
import heapq
import random
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF: Final = 0.2
LAST_BACKOFF: Final = 120.0
PACE: Final = 0.1
"""Seconds between two runs of the same key, so that nobody can keep a worker busy."""


class KeyedQueue(Generic[K]):
    """Keys that want work, in the order in which they came due."""

    def __init__(
        self, clock: Callable[[], float], jitter: Callable[[], float] = random.random
    ) -> None:
        self._clock: Final = clock
        self._jitter: Final = jitter
        self._due: OrderedDict[K, float] = OrderedDict()
        self._later: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._working: set[K] = set()
        self._again: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._count = 0
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    @property
    def idle(self) -> bool:
        """Whether nothing is due and nobody works."""
        return not self._due and not self._working

    @property
    def age(self) -> float:
        """For how many seconds the oldest due key has waited."""
        return self._clock() - next(iter(self._due.values())) if self._due else 0.0

    def add(self, key: K, delay: float = 0.0) -> None:
        """Ask for a run of the key, at the earlier of this and what was asked before."""
        moment = self._clock() + delay
        if key in self._working:
            self._again[key] = min(moment, self._again.get(key, moment))
        elif key not in self._due and moment < self._later.get(key, float("inf")):
            self._later[key] = moment
            self._count += 1
            heapq.heappush(self._heap, (moment, self._count, key))
            self._wake.set()

    def forget(self, key: K) -> None:
        """Note that the key's last run was good, so that its backoff starts anew."""
        self._failures.pop(key, None)

    def retry(self, key: K, at_least: float = 0.0) -> float:
        """Ask for another run after a failure; return the delay, which grows with each failure."""
        failures = self._failures.get(key, 0)
        self._failures[key] = min(failures + 1, 32)
        delay = min(FIRST_BACKOFF * float(1 << failures), LAST_BACKOFF) * (
            0.75 + 0.5 * self._jitter()
        )
        self.add(key, max(delay, at_least))
        return max(delay, at_least)

    async def get(self) -> K:
        """Wait for the next key; the caller must say `done` afterwards."""
        while True:
            wait = self._promote()
            if self._due:
                key, _ = self._due.popitem(last=False)
                self._working.add(key)
                return key
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), wait)
            except TimeoutError:
                continue

    def done(self, key: K) -> None:
        """Note that the run has ended; the key may run again."""
        self._working.discard(key)
        again = self._again.pop(key, None)
        if again is not None:
            self.add(key, max(again - self._clock(), PACE))

    def _promote(self) -> float | None:
        """Move keys whose time has come; return the seconds until the next one."""
        now = self._clock()
        while self._heap:
            moment, _, key = self._heap[0]
            if self._later.get(key) != moment:  # an earlier entry has replaced this one
                heapq.heappop(self._heap)
                continue
            if moment > now:
                return moment - now
            heapq.heappop(self._heap)
            del self._later[key]
            self._due[key] = now
        return None
