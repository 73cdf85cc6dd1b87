"""The process: everything wired together, started in order, ended together.

Every replica watches and answers probes; only the leader reconciles, asks agents, and writes.
Losing the lease, a dead watch, or any part that ends ends the process: a fresh one starts clean.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from modelseal.contract import API_VERSION, GROUP
from modelseal_operator.cluster import Cluster, ClusterError, Election, NotLeading, connect
from modelseal_operator.cluster.client import Bucket
from modelseal_operator.foreign import Report
from modelseal_operator.handlers import watch
from modelseal_operator.kinds import (
    CLUSTER_PROVIDER,
    KINDS,
    MODEL,
    NODE,
    POD,
    PROVIDER,
    REPLICA_SET,
    WATCHED,
    Kind,
)
from modelseal_operator.metrics import Metrics
from modelseal_operator.pods import is_ready
from modelseal_operator.queue import KeyedQueue
from modelseal_operator.reconcile import Reconciler
from modelseal_operator.reports import Place as AgentPlace
from modelseal_operator.reports import Reports, address_of
from modelseal_operator.resync import DeadWatch, Resync
from modelseal_operator.serve import HealthServer
from modelseal_operator.settings import Settings
from modelseal_operator.store import Key, Store, place_of
from modelseal_operator.waves import Waves

LOGGER: Final = logging.getLogger(__name__)
CRD_POLL: Final = 2.0
STUCK: Final = 300.0
"""Seconds that the oldest key may wait, or the event loop may be silent, before liveness fails."""
RATE: Final = 200.0
DOUBT: Final = 0.5
"""Seconds between looks at a lease that was not renewed in time."""
_CHAIN: Final = (POD, REPLICA_SET, KINDS["Deployment"])
_OURS: Final = frozenset({MODEL.plural, PROVIDER.plural, CLUSTER_PROVIDER.plural})


class LostLease(Exception):
    """Another replica may act now; this one starts afresh."""


class Operator:
    """One replica."""

    def __init__(
        self,
        settings: Settings,
        api: Any,
        agent_place: AgentPlace = address_of,
        take_signals: Callable[[], None] = lambda: None,
    ) -> None:
        clock = time.monotonic
        self._take_signals: Final = take_signals
        self._settings: Final = settings
        self._clock: Final = clock
        self.metrics: Final = Metrics()
        self._store: Final = Store()
        self._queue: Final[KeyedQueue[Key]] = KeyedQueue(clock)
        self._waves: Final = Waves(settings.concurrency)
        self._election: Final = Election(
            # the lease's own requests wait for no one and are what decides who may write
            Cluster(
                api,
                Bucket(RATE, clock),
                may_write=lambda: True,
                count=self.metrics.count_request,
            ),
            name=settings.lease_name,
            namespace=settings.namespace,
            identity=settings.identity,
            seconds=settings.lease_seconds,
        )
        self._cluster: Final = Cluster(
            api,
            Bucket(RATE, clock),
            may_write=lambda: self._election.leads,
            count=self.metrics.count_request,
        )
        self._kinds: Final = self._watched()
        told: dict[str, Report] = {}
        self._reconciler: Final = self._make_reconciler(told)
        self._reports: Final = Reports(
            pods_of=self._reconciler.pods_to_ask,
            by_uid=told,
            place=agent_place,
            changed=self._queue.add,
            metrics=self.metrics,
            interval=settings.report_interval,
            clock=clock,
        )
        self._resync: Final = Resync(
            self._store,
            self._cluster,
            kinds=self._kinds,
            namespaces=settings.namespaces,
            add=self._enqueue,
            clock=clock,
        )
        self.health: Final = HealthServer(
            alive=self.wrong, ready=self.unready, metrics=self.metrics, gauge=self._measure
        )
        self._established = False
        self._leading = False
        self._beat = clock()

    @property
    def leads(self) -> bool:
        """Whether this replica acts."""
        return self._leading and self._election.leads

    @property
    def idle(self) -> bool:
        """Whether nothing is due."""
        return self._leading and self._queue.idle

    async def resync_now(self) -> None:
        """Check the watches now instead of at the next interval."""
        await self._resync.check()

    async def run(self) -> None:
        """Run until something ends; what ended it is raised unless it was a signal."""
        await self.health.start(self._settings.port)
        LOGGER.info("listening on port %d", self.health.port)
        try:
            await self._established_crds()
            await self._together(
                watch(self._settings, self._kinds, self._deliver, self._take_signals),
                self._heartbeat(),
                self._resync.run(self._settings.resync),
                self._contend(),
            )
        finally:
            await self._election.release()
            await self.health.stop()
            await self._cluster.close()

    def _make_reconciler(self, told: dict[str, Report]) -> Reconciler:
        return Reconciler(
            store=self._store,
            cluster=self._cluster,
            settings=self._settings,
            waves=self._waves,
            metrics=self.metrics,
            reports=told,
            wake=self._queue.add,
        )

    def _watched(self) -> tuple[Kind, ...]:
        kinds = (*WATCHED, NODE) if self._settings.devices else WATCHED
        # with namespaces there are only Roles, and nothing cluster-scoped can be read
        return tuple(k for k in kinds if k.namespaced or not self._settings.namespaces)

    async def _contend(self) -> None:
        await self._election.run(self._lead)
        raise LostLease

    async def _lead(self) -> None:
        LOGGER.info("leading")
        self._leading = True
        await self._resync.check()
        workers = [self._worker() for _ in range(self._settings.workers)]
        await self._together(self._reports.run(), self._first_round(), *workers)

    async def _first_round(self) -> None:
        """Let nothing roll in waves before every model has been seen once, then ask agents."""
        for key in self._store.models():
            self._queue.add(key)
            self._reports.ask_first(key)
        while not self._queue.idle:
            await asyncio.sleep(0.2)
        for key in self._waves.open():
            self._queue.add(key)
        await asyncio.Event().wait()

    async def _worker(self) -> None:
        while True:
            key = await self._queue.get()
            try:
                await self._may_write()
                # the reason that was there before is better than one without the agents' word
                if wait := self._reports.awaited(key):
                    self._queue.add(key, wait)
                else:
                    await self._one(key)
            finally:
                self._queue.done(key)

    async def _may_write(self) -> None:
        """Wait while the lease is in doubt: it is renewed soon, or this replica ends."""
        while not self._election.leads:
            await asyncio.sleep(DOUBT)

    async def _one(self, key: Key) -> None:
        try:
            again = await self._reconciler.reconcile(key)
        except NotLeading:
            self._queue.add(key, DOUBT)  # no failure of the model's, so no growing delay
        except ClusterError as error:
            self.metrics.reconciles.labels("retry").inc()
            delay = self._queue.retry(key, error.retry_after)
            LOGGER.info("%s/%s: %s; again in %.1f s", key.namespace, key.name, error, delay)
        except Exception:  # one resource must never stop the others
            self.metrics.reconciles.labels("failure").inc()
            LOGGER.exception("%s/%s: the pass failed", key.namespace, key.name)
            self._queue.retry(key)
        else:
            self.metrics.reconciles.labels("done").inc()
            self._queue.forget(key)
            if again is not None:
                self._queue.add(key, again)

    def _deliver(self, kind: Kind, event: str | None, raw: dict[str, Any]) -> None:
        stopped = False
        if event is None and self._store.version(place_of(kind.name, raw)):
            self._resync.listed_again()
        if event == "DELETED":
            keys = self._store.remove(kind.name, raw)
        else:
            before = self._store.offered() if kind is NODE else None
            stopped = kind is POD and self._stopped(raw)
            keys = self._store.put(kind.name, raw)
            if kind is NODE and self._store.offered() != before:
                keys = set(self._store.models())
        for key in keys if self._leading else ():  # a standby only watches
            self._queue.add(key)
            if stopped:
                self._reports.ask_first(key)
            # whichever of the chain of controllers arrives last makes a pod worth asking
            elif kind in _CHAIN:
                self._reports.ask(key)

    def _stopped(self, raw: dict[str, Any]) -> bool:
        """Tell whether a pod was ready and is not any more: its agent knows why."""
        before = self._store.get(place_of(POD.name, raw))
        return before is not None and is_ready(before) and not is_ready(raw)

    def _enqueue(self, key: Key) -> None:
        if self._leading:
            self._queue.add(key)

    async def _heartbeat(self) -> None:
        while True:
            before = self._clock()
            await asyncio.sleep(1.0)
            self._beat = self._clock()
            self.metrics.lag.set(max(self._beat - before - 1.0, 0.0))

    async def _established_crds(self) -> None:
        """Wait for our kinds: kopf would idle for ever on kinds that are not there."""
        told = False
        while True:
            try:
                missing = _OURS - await self._cluster.served(GROUP, API_VERSION)
            except ClusterError as error:
                LOGGER.warning("%s", error)
                missing = _OURS
            if not missing:
                self._established = True
                return
            if not told:
                LOGGER.warning("waiting for the CRDs %s", ", ".join(sorted(missing)))
                told = True
            await asyncio.sleep(CRD_POLL)

    def wrong(self) -> str | None:
        """Return why this process should be restarted, if it should."""
        if not self._established:
            return None
        if self._clock() - self._beat > STUCK:
            return "the event loop stood still"
        if self._leading and self._queue.age > STUCK:
            return "a model waits for too long"
        if self._clock() - self._resync.checked_at > 3 * self._settings.resync + STUCK:
            return "the list check does not finish"
        return None

    def unready(self) -> str | None:
        """Return what this replica waits for before it can act."""
        return None if self._established else "the CRDs are not established"

    def _measure(self) -> None:
        self.metrics.depth.set(len(self._queue))
        self.metrics.age.set(self._queue.age)
        self.metrics.leader.set(self._election.leads)
        self.metrics.models.clear()
        for standing, count in self._store.standings().items():
            self.metrics.models.labels(standing.ready or "Unknown", standing.reason).set(count)

    async def _together(self, *parts: Coroutine[Any, Any, None]) -> None:
        """Run parts until the first ends, then end the others."""
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()


async def run(settings: Settings) -> int:
    """Run a replica until a signal (0) or a failure (1)."""
    stopped = asyncio.Event()

    def take_signals() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)

    # again once kopf has started: it takes them for itself, and would cancel our tasks in any order
    take_signals()
    operator = Operator(settings, await connect(settings.kubeconfig), take_signals=take_signals)
    task = asyncio.ensure_future(operator.run())
    waiter = asyncio.ensure_future(stopped.wait())
    await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    task.cancel()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    if stopped.is_set():
        LOGGER.info("stopped by a signal")
        return 0
    LOGGER.error("ending: %s", outcome if isinstance(outcome, DeadWatch) else repr(outcome))
    return 1
