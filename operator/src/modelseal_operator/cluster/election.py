"""Which of the replicas acts: a Lease, through the official client's election.

Its own Lease lock sets no time-out, lets other errors than the API's escape, and cannot create a
Lease (37.0.2 passes `pretty` as a boolean, which its own validation refuses); its clock is the
wall's. So the lock is ours, every call of it is bounded and never raises, and whether this replica
may write is decided by its own clock: `leads` is false as soon as the lease could be another's.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.baselock import BaseLock

from modelseal.errors import ModelsealError
from modelseal_operator.cluster.client import WRITE_SECONDS, Cluster
from modelseal_operator.jsonview import dig, number_at, text_at
from modelseal_operator.kinds import LEASE

Json = dict[str, Any]
LOGGER: Final = logging.getLogger(__name__)
CALL_SECONDS: Final = 4.0


def _boottime() -> float:
    """Return a clock that no one sets and that runs on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LeaseLock(BaseLock):
    """A lock on a Lease whose calls end in time and never raise; it notes when it was held."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        name: str,
        namespace: str,
        identity: str,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(name, namespace, identity)
        self._cluster: Final = cluster
        self._clock: Final = clock
        self._lease: Json | None = None
        self.held_at: float | None = None

    async def get(self, name: str, namespace: str) -> Any:
        """Return (True, record), or (False, error) if there is no lease or no answer."""
        try:
            found = await asyncio.wait_for(self._cluster.get(LEASE, namespace, name), CALL_SECONDS)
        except (ModelsealError, TimeoutError) as error:
            LOGGER.warning("failed to read the lease: %s", str(error) or "no answer in time")
            return False, ApiException(status=0, reason="no answer")
        if found is None:
            missing = ApiException(status=404, reason="not found")
            missing.body = '{"code": 404}'
            return False, missing
        self._lease = found
        spec = dig(found, "spec")
        duration = number_at(spec, "leaseDurationSeconds")
        return True, LeaderElectionRecord(
            text_at(spec, "holderIdentity") or None,
            str(duration) if duration else None,
            text_at(spec, "acquireTime") or None,
            text_at(spec, "renewTime") or None,
        )

    async def create(
        self, name: str, namespace: str, election_record: LeaderElectionRecord
    ) -> bool:
        """Create the lease; tell whether this replica holds it now."""
        body = {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.name,
            "metadata": {"name": name, "namespace": namespace},
            "spec": self._spec(election_record, {}),
        }
        return await self._hold(self._cluster.create(LEASE, body))

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Renew or take over the lease that was read; tell whether this replica holds it now."""
        if self._lease is None:
            return False
        spec = self._spec(updated_record, self._lease.get("spec") or {})
        return await self._hold(self._cluster.replace(LEASE, {**self._lease, "spec": spec}))

    async def give_back(self) -> None:
        """Write a lease without holder, which a standby may take at once."""
        if self.held_at is None or self._lease is None:
            return
        spec = {**self._lease["spec"], "holderIdentity": ""}
        await self._hold(self._cluster.replace(LEASE, {**self._lease, "spec": spec}))
        self.held_at = None

    def _spec(self, record: LeaderElectionRecord, before: Json) -> Json:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        holder = text_at(before, "holderIdentity")
        kept = holder == self.identity
        return {
            **before,
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(record.lease_duration or 15),
            "acquireTime": text_at(before, "acquireTime") or now if kept else now,
            "renewTime": now,
            "leaseTransitions": number_at(before, "leaseTransitions") + (0 if kept else 1),
        }

    async def _hold(self, call: Awaitable[Json]) -> bool:
        asked = self._clock()  # the lease runs from before the request, not from its answer
        try:
            self._lease = await asyncio.wait_for(call, CALL_SECONDS)
        except (ModelsealError, TimeoutError) as error:
            LOGGER.warning("failed to write the lease: %s", str(error) or "no answer in time")
            return False
        self.held_at = asked
        return True


class Election:
    """Waits for leadership, keeps it, and knows whether it is still there."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        name: str,
        namespace: str,
        identity: str,
        seconds: int,
        clock: Callable[[], float] = _boottime,
    ) -> None:
        self._lock: Final = LeaseLock(
            cluster=cluster, name=name, namespace=namespace, identity=identity, clock=clock
        )
        self._seconds: Final = seconds
        self._bound: Final = seconds - WRITE_SECONDS - 0.5
        self._clock: Final = clock
        self._lost = False

    @property
    def leads(self) -> bool:
        """Whether this replica may write: the lease can be nobody else's yet."""
        held = self._lock.held_at
        return not self._lost and held is not None and self._clock() - held < self._bound

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lease and do the work; return when the lease or the work has ended."""
        running = asyncio.Event()
        task: asyncio.Task[None] | None = None

        async def started() -> None:
            nonlocal task
            task = asyncio.ensure_future(_all(work))
            running.set()
            await asyncio.wait({task})  # what it raises is raised below, and only once

        async def stopped() -> None:
            self._lost = True

        election = LeaderElection(
            Config(
                self._lock,
                lease_duration=self._seconds,  # the client demands a whole number
                renew_deadline=self._seconds * 0.67,
                retry_period=max(self._seconds * 0.13, 1.0),
                onstarted_leading=started,
                onstopped_leading=stopped,
            )
        )
        keeper = asyncio.ensure_future(election.run())
        waiter = asyncio.ensure_future(running.wait())
        await asyncio.wait({keeper, waiter}, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        try:
            if task is not None:
                await asyncio.wait({keeper, task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._lost = True
            for unfinished in (keeper, *([task] if task else [])):
                unfinished.cancel()
        if task is not None and task.done() and not task.cancelled():
            task.result()

    async def release(self) -> None:
        """Give the lease back, so that the standby takes over at once."""
        self._lost = True
        await self._lock.give_back()


async def _all(work: Callable[[], Awaitable[None]]) -> None:
    await work()
