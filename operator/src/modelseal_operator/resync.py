"""The list check: whether the watches tell the truth, asked every few minutes.

A watch whose version has expired lists anew, and what was deleted before that is never announced.
So keys that vanished are dropped here: soon after objects were listed again, and in every check,
because a list that came back empty is not heard of. An object that stays newer in the list than in
the store is a dead watch, which only a restart cures; the check then ends the process.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from modelseal_operator.cluster import Cluster, ClusterError
from modelseal_operator.kinds import Kind
from modelseal_operator.store import Key, Place, Store, place_of, version_of

LOGGER: Final = logging.getLogger(__name__)
GRACE: Final = 60.0
POLL: Final = 2.0
SETTLE: Final = 2.0
"""Seconds in which the watches that expire together list again before one look for all of them."""


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
        self._relisted: Final = asyncio.Event()
        self.checked_at: float = clock()

    def listed_again(self) -> None:
        """Note that a watch has listed what is held already, and so may have missed a deletion."""
        self._relisted.set()

    async def run(self, interval: float) -> None:
        """Check until cancelled; DeadWatch if a watch has died."""
        due = self._clock() + interval
        while True:
            try:
                if await self._listed_again_before(due):
                    await self._drop_soon()
                else:
                    due = self._clock() + interval
                    await self.check()
            except ClusterError as error:
                LOGGER.warning("the list check did not finish: %s", error)

    async def check(self) -> None:
        """Drop what vanished, enqueue all models, and wait until the store has caught up."""
        for kind in self._kinds:
            await self._caught_up(await self._drop_vanished(kind))
        for key in self._store.models():
            self._add(key)
        self.checked_at = self._clock()

    async def _listed_again_before(self, due: float) -> bool:
        try:
            await asyncio.wait_for(self._relisted.wait(), max(due - self._clock(), 0))
        except TimeoutError:
            return False
        return True

    async def _drop_soon(self) -> None:
        """Drop what vanished; what fails is asked again, because nobody else will say so."""
        await asyncio.sleep(SETTLE)
        self._relisted.clear()
        try:
            for kind in self._kinds:
                await self._drop_vanished(kind)
        except ClusterError:
            self._relisted.set()
            raise

    async def _drop_vanished(self, kind: Kind) -> dict[Place, int]:
        held = set(self._store.places(kind.name))
        listed = await self._listed(kind)
        for place in held - listed.keys():
            for key in self._store.drop(place):
                self._add(key)
        return listed

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
