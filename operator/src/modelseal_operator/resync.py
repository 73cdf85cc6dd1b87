"""The list check: whether the watches tell the truth, asked every few minutes.

A delete that happened while a watch was away is never announced, so keys that vanished are dropped
here. An object that stays newer in the list than in the store is a dead watch, which only a
restart cures; the check then ends the process.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from modelseal_operator.cluster import Cluster
from modelseal_operator.kinds import Kind
from modelseal_operator.store import Key, Place, Store, place_of, version_of

GRACE: Final = 60.0
POLL: Final = 2.0


class DeadWatch(Exception):
    """A watch has stopped delivering."""


class Resync:
    """Compares the store with lists of keys and versions."""

    def __init__(
        self,
        store: Store,
        cluster: Cluster,
        *,
        kinds: Iterable[Kind],
        namespaces: tuple[str, ...],
        add: Callable[[Key], None],
        clock: Callable[[], float],
    ) -> None:
        self._store: Final = store
        self._cluster: Final = cluster
        self._kinds: Final = tuple(kinds)
        self._namespaces: Final = namespaces
        self._add: Final = add
        self._clock: Final = clock
        self.checked_at: float = clock()

    async def run(self, interval: float) -> None:
        """Check until cancelled; DeadWatch if a watch has died."""
        while True:
            await asyncio.sleep(interval)
            await self.check()

    async def check(self) -> None:
        """Drop what vanished, enqueue all models, and wait until the store has caught up."""
        for kind in self._kinds:
            held = set(self._store.places(kind.name))
            listed = await self._listed(kind)
            for place in held - listed.keys():
                for key in self._store.drop(place):
                    self._add(key)
            await self._caught_up(listed)
        for key in self._store.models():
            self._add(key)
        self.checked_at = self._clock()

    async def _listed(self, kind: Kind) -> dict[Place, int]:
        found: dict[Place, int] = {}
        for namespace in self._namespaces if kind.namespaced and self._namespaces else (None,):
            async for item in self._cluster.list_metadata(kind, namespace):
                found[place_of(kind.name, item)] = version_of(item)
        return found

    async def _caught_up(self, listed: dict[Place, int]) -> None:
        deadline = self._clock() + GRACE
        behind = {p: v for p, v in listed.items() if self._store.version(p) < v}
        while behind:
            if self._clock() > deadline:
                kind = next(iter(behind)).kind
                raise DeadWatch(f"the watch of {kind} is behind for over {GRACE:g} s")
            await asyncio.sleep(POLL)
            behind = {p: v for p, v in behind.items() if self._store.version(p) < v}
            behind = await self._still_there(behind)

    async def _still_there(self, behind: dict[Place, int]) -> dict[Place, int]:
        """Drop from a suspicion what was deleted meanwhile, and so will never catch up."""
        found = {}
        for place, version in behind.items():
            kind = next(k for k in self._kinds if k.name == place.kind)
            if await self._cluster.get(kind, place.namespace, place.name) is not None:
                found[place] = version
        return found
