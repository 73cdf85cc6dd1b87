"""Read, decide, apply, tell: one pass over one model, the same from every state.

A pass that finds everything as it should be writes nothing.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from modelseal_operator.applying import Applier, controlled, controlled_by
from modelseal_operator.children.common import API_VERSIONS
from modelseal_operator.cluster import Cluster, Conflict, Missing, Refused
from modelseal_operator.events import event, worth_telling
from modelseal_operator.foreign import Report
from modelseal_operator.jsonview import dig, number_at, text_at
from modelseal_operator.kinds import EVENT, KINDS, MODEL, POD, REPLICA_SET
from modelseal_operator.metrics import Metrics
from modelseal_operator.plan import Facts, Plan, hold_template, make_plan
from modelseal_operator.settings import Settings
from modelseal_operator.status import build_status, transitions
from modelseal_operator.store import Key, Place, Store
from modelseal_operator.waves import Waves

Json = dict[str, Any]


_CHAIN: Final = ("Deployment", REPLICA_SET.name, POD.name)
OBSTACLE_SECONDS: Final = 60.0
"""When to try again what the API server or a stranger's object stood in the way of."""


def utc_now() -> datetime:
    """Return the wall clock's time."""
    return datetime.now(UTC)


class Reconciler:
    """Brings models to where they should be, one pass at a time."""

    def __init__(
        self,
        *,
        store: Store,
        cluster: Cluster,
        settings: Settings,
        waves: Waves,
        metrics: Metrics,
        reports: Mapping[str, Report],
        wake: Callable[[Key], None],
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store: Final = store
        self._cluster: Final = cluster
        self._settings: Final = settings
        self._waves: Final = waves
        self._metrics: Final = metrics
        self._reports: Final = reports
        self._wake: Final = wake
        self._now: Final = now
        self._applier: Final = Applier(store, cluster)

    async def reconcile(self, key: Key) -> float | None:
        """Make one pass; return the seconds after which another is due, if any."""
        started = time.monotonic()
        raw = self._store.get(Place(MODEL.name, key.namespace, key.name))
        if raw is None or text_at(raw, "metadata", "deletionTimestamp"):
            self._free(self._waves.forget(key))  # owner references do the rest
            return None
        plan = self._turn(key, make_plan(self._facts(key, raw), self._settings.pods))
        obstacle = await self._applier.apply(plan.desired, text_at(raw, "metadata", "uid"))
        await self._scale_held(plan)
        await self._applier.remove(plan.unwanted)
        plan = replace(plan, seen=replace(plan.seen, obstacle=obstacle))
        await self._tell(raw, plan)
        self._metrics.seconds.observe(time.monotonic() - started)
        return OBSTACLE_SECONDS if obstacle else plan.again

    def pods_to_ask(self, key: Key) -> list[Json]:
        """Return the pods of a model that its own ReplicaSets control."""
        raw = self._store.get(Place(MODEL.name, key.namespace, key.name))
        members = self._store.members(key, *_CHAIN)
        return _pods(members, text_at(raw, "metadata", "uid")) if raw else []

    def _facts(self, key: Key, raw: Json) -> Facts:
        uid, members = text_at(raw, "metadata", "uid"), self._store.members(key)
        reference = dig(raw, "spec", "keyProviderRef")
        kind = text_at(reference, "kind") or "KeyProvider"
        namespace = key.namespace if kind == "KeyProvider" else ""
        return Facts(
            raw=raw,
            provider=self._store.get(Place(kind, namespace, text_at(reference, "name"))),
            children=controlled(members, uid, API_VERSIONS.__contains__),
            pods=_pods(members, uid),
            reports=self._reports,
            offered=self._store.offered() if self._settings.devices else None,
            now=self._now(),
        )

    def _turn(self, key: Key, plan: Plan) -> Plan:
        """Hold back a change that is not the model's own until it is its turn."""
        self._free(self._waves.observe(key, plan.rolling))
        if not plan.foreign_change:
            self._free(self._waves.forget(key) if key in self._waves.waiting else frozenset())
            return plan
        return plan if self._waves.may_start(key) else hold_template(plan)

    def _free(self, keys: frozenset[Key]) -> None:
        for key in keys:
            self._wake(key)

    async def _scale_held(self, plan: Plan) -> None:
        """Scale a Deployment whose template is held back; nothing else of it is touched."""
        live, model = plan.seen.deployment, plan.seen.model
        if not plan.seen.held or model is None or live is None:
            return
        if number_at(live, "spec", "replicas") != model.pods:
            change = {"spec": {"replicas": model.pods}}
            kind = KINDS["Deployment"]
            self._store.put(kind.name, await self._cluster.merge(kind, live, change))

    async def _tell(self, raw: Json, plan: Plan) -> None:
        previous = raw.get("status") if isinstance(raw.get("status"), dict) else {}
        assert isinstance(previous, dict)  # noqa: S101 (for the type checker)
        status = build_status(plan.seen, plan.context, previous, self._now())
        if status == previous:
            return
        gone = dict.fromkeys(previous.keys() - status.keys())
        try:
            answer = await self._cluster.merge(
                MODEL, raw, {"status": {**gone, **_complete(previous, status)}}, "status"
            )
        except Missing:
            return
        self._store.put(MODEL.name, answer)
        for condition in transitions(previous, status):
            if worth_telling(condition):
                await self._record(event(raw, condition, self._settings.identity, self._now()))

    async def _record(self, body: Json) -> None:
        try:
            await self._cluster.create(EVENT, body)
        except (Conflict, Refused):
            return  # told before, or nobody may be told: the status says it all the same


def _pods(members: Mapping[Place, Json], uid: str) -> list[Json]:
    """Return the pods whose chain of controllers leads to the model, not just their labels."""
    deployments = {o["metadata"]["uid"] for o in controlled(members, uid, _is("Deployment"))}
    sets = {
        raw["metadata"]["uid"]
        for place, raw in members.items()
        if place.kind == REPLICA_SET.name and any(controlled_by(raw, u) for u in deployments)
    }
    return [
        raw
        for place, raw in members.items()
        if place.kind == POD.name and any(controlled_by(raw, u) for u in sets)
    ]


def _is(kind: str) -> Callable[[str], bool]:
    return kind.__eq__


def _complete(previous: Json, status: Json) -> Json:
    """Return the status as a merge patch: what an object lost is null."""
    found = {}
    for key, value in status.items():
        before = previous.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            found[key] = {**dict.fromkeys(before.keys() - value.keys()), **value}
        else:
            found[key] = value
    return found
