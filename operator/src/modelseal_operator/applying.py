"""Making the cluster have the children of a plan, and taking nothing over that is not ours."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from modelseal.contract import FIELD_MANAGER, Reason
from modelseal.errors import shown
from modelseal_operator.cluster import Cluster, Conflict, Refused
from modelseal_operator.compare import contains
from modelseal_operator.jsonview import objects_at, text_at
from modelseal_operator.kinds import KINDS, Kind
from modelseal_operator.pods import Finding
from modelseal_operator.store import Place, Store, place_of

Json = dict[str, Any]


class Applier:
    """Applies children for the owner with a given uid."""

    def __init__(self, store: Store, cluster: Cluster) -> None:
        self._store: Final = store
        self._cluster: Final = cluster

    async def apply(self, desired: Sequence[Json], uid: str) -> Finding | None:
        """Create or change every child that differs; return the first obstacle, if any.

        A child that is refused keeps no other from being applied.
        """
        obstacle = None
        for child in desired:
            try:
                found = await self._apply(KINDS[child["kind"]], child, uid)
            except Refused as error:
                found = Finding(reason=_refusal(error.message), detail=error.message)
            obstacle = obstacle or found
        return obstacle

    async def remove(self, unwanted: Sequence[Json]) -> None:
        """Delete children that should not be; the caller knows that they are ours."""
        for child in unwanted:
            if text_at(child, "metadata", "deletionTimestamp"):
                continue
            await self._cluster.delete(KINDS[child["kind"]], child)

    async def _apply(self, kind: Kind, child: Json, uid: str) -> Finding | None:
        place = place_of(kind.name, child)
        live = self._store.get(place)
        if live is None:
            try:
                self._store.put(kind.name, await self._cluster.create(kind, child))
                return None
            except Conflict:
                # without our label the watch does not show it: somebody else's, or ours by now
                live = await self._cluster.get(kind, place.namespace, place.name)
        if live is None or text_at(live, "metadata", "deletionTimestamp"):
            raise Conflict(f"{kind.name} {shown(place.name)} is being deleted")
        if not controlled_by(live, uid):
            detail = f"{kind.name} {shown(place.name)} exists and is not this resource's"
            return Finding(reason=Reason.NAME_CONFLICT, detail=detail)
        if contains(live, child):
            return None
        try:
            await self._own(kind, place)
            answer = await self._cluster.apply(kind, child, text_at(live, "metadata", "uid"))
        except Conflict:
            self._store.drop(place)  # it is another object by now; the next try sees it
            raise
        self._store.put(kind.name, answer)
        return None

    async def _own(self, kind: Kind, place: Place) -> None:
        """Own by apply what we own by having created it, or apply would never remove a field."""
        live = await self._cluster.get(kind, place.namespace, place.name)
        managers = objects_at(live, "metadata", "managedFields")
        owned = owned_by_apply(managers)
        if live is not None and owned != managers:
            await self._cluster.own(kind, live, owned)


def owned_by_apply(managers: Sequence[Mapping[str, Any]]) -> list[Json]:
    """Return managedFields in which nothing is ours by another way than by apply."""
    ours = [m for m in managers if m.get("manager") == FIELD_MANAGER and not m.get("subresource")]
    applied = [m for m in ours if m.get("operation") == "Apply"]
    updated = [m for m in ours if m.get("operation") == "Update"]
    kept = [dict(m) for m in managers if m not in updated]
    return kept + [{**m, "operation": "Apply"} for m in updated if not applied]


def controlled_by(live: Mapping[str, object], uid: str) -> bool:
    """Tell whether an object's controller is the owner with this uid."""
    owners = objects_at(live, "metadata", "ownerReferences")
    return any(o.get("uid") == uid and o.get("controller") is True for o in owners)


def controlled(
    members: Mapping[Place, Json], uid: str, wanted: Callable[[str], bool]
) -> list[Json]:
    """Return the members of a model that it controls, with their kind written in."""
    return [
        {**raw, "kind": place.kind}
        for place, raw in members.items()
        if wanted(place.kind) and controlled_by(raw, uid)
    ]


def _refusal(message: str) -> Reason:
    return Reason.QUOTA_EXCEEDED if "exceeded quota" in message else Reason.APPLY_REFUSED
