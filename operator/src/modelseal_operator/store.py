"""What the watches have delivered, kept small, with the indexes that reconciling needs.

Objects are kept as compact JSON and parsed when they are read: a thousand models bring ten
thousand objects. An event that is older than what is kept is dropped, so the answer to our own
write may be put here at once and a watch that lags does not undo it.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from modelseal.contract import LABEL_MODEL, Condition
from modelseal_operator.jsonview import condition_of, dig, text_at
from modelseal_operator.kinds import MODEL, NODE, POD, REPLICA_SET

Json = dict[str, Any]
_KEPT_OF_PODS: Final = ("name", "namespace", "uid", "labels", "ownerReferences", "resourceVersion")


class Key(NamedTuple):
    """The place of an EncryptedModel, and of everything that belongs to it."""

    namespace: str
    name: str


class Place(NamedTuple):
    """The place of any object; cluster-scoped ones have an empty namespace."""

    kind: str
    namespace: str
    name: str


class Standing(NamedTuple):
    """What a model's status says: its Ready condition; empty texts where it says nothing."""

    ready: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Kept:
    version: int
    body: bytes


class Store:
    """Objects by place, and what belongs to a model."""

    def __init__(self) -> None:
        self._objects: dict[Place, _Kept] = {}
        self._members: defaultdict[Key, set[Place]] = defaultdict(set)
        self._member_of: dict[Place, Key] = {}
        self._users: defaultdict[Place, set[Key]] = defaultdict(set)
        self._uses: dict[Key, Place] = {}
        self._offers: dict[Place, frozenset[str]] = {}
        self._standings: dict[Key, Standing] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def put(self, kind: str, raw: Mapping[str, object]) -> set[Key]:
        """Keep an object unless a newer one is kept; return the models that it concerns."""
        place, version = place_of(kind, raw), version_of(raw)
        kept = self._objects.get(place)
        if kept is not None and kept.version >= version:
            return set()
        body = json.dumps(_trimmed(kind, raw), separators=(",", ":")).encode()
        self._objects[place] = _Kept(version, body)
        if kind == MODEL.name:
            key = Key(place.namespace, place.name)
            self._use(key, raw)
            self._standings[key] = _standing(raw)
        if kind == NODE.name:
            self._offers[place] = _offered(raw)
        # whoever edits the label moves the object from one model to another, and concerns both
        before = self._leave(place)
        owner = member_of(kind, raw)
        if owner:
            self._members[owner].add(place)
            self._member_of[place] = owner
        return self.concerned(kind, raw) | before

    def remove(self, kind: str, raw: Mapping[str, object]) -> set[Key]:
        """Drop an object unless a newer one is kept; return the models that it concerns."""
        place = place_of(kind, raw)
        if self.version(place) > version_of(raw):
            return set()
        return self.concerned(kind, raw) | self.drop(place)

    def drop(self, place: Place) -> set[Key]:
        """Drop whatever is kept at a place; return the models that it concerns."""
        raw = self.get(place)
        if raw is None:
            return set()
        concerned = self.concerned(place.kind, raw)
        self._objects.pop(place)
        self._offers.pop(place, None)
        self._leave(place)
        if place.kind == MODEL.name:
            key = Key(place.namespace, place.name)
            self._unuse(key)
            self._standings.pop(key, None)
        return concerned

    def get(self, place: Place) -> Json | None:
        """Return the object at a place."""
        kept = self._objects.get(place)
        return json.loads(kept.body) if kept else None

    def version(self, place: Place) -> int:
        """Return the version of the object at a place; 0 if there is none."""
        kept = self._objects.get(place)
        return kept.version if kept else 0

    def members(self, key: Key, *kinds: str) -> dict[Place, Json]:
        """Return the objects that carry a model's label, of all kinds or of some."""
        places = sorted(p for p in self._members.get(key, ()) if not kinds or p.kind in kinds)
        return {place: json.loads(self._objects[place].body) for place in places}

    def places(self, kind: str) -> list[Place]:
        """Return the places of all objects of a kind."""
        return [place for place in self._objects if place.kind == kind]

    def models(self) -> Iterator[Key]:
        """Yield the places of all models."""
        yield from list(self._standings)

    def concerned(self, kind: str, raw: Mapping[str, object]) -> set[Key]:
        """Return the models that an object concerns."""
        place = place_of(kind, raw)
        if kind == MODEL.name:
            return {Key(place.namespace, place.name)}
        owner = member_of(kind, raw)
        return {owner} if owner else set(self._users.get(place, ()))

    def offered(self) -> frozenset[str]:
        """Return the names of the resources that nodes have at least one of."""
        return frozenset().union(*self._offers.values())

    def standings(self) -> Counter[Standing]:
        """Return how many models stand how."""
        return Counter(self._standings.values())

    def _leave(self, place: Place) -> set[Key]:
        owner = self._member_of.pop(place, None)
        if owner is None:
            return set()
        self._members[owner].discard(place)
        if not self._members[owner]:
            del self._members[owner]
        return {owner}

    def _use(self, key: Key, raw: Mapping[str, object]) -> None:
        self._unuse(key)
        reference = dig(raw, "spec", "keyProviderRef")
        kind = text_at(reference, "kind") or "KeyProvider"
        namespace = key.namespace if kind == "KeyProvider" else ""
        place = Place(kind, namespace, text_at(reference, "name"))
        self._uses[key] = place
        self._users[place].add(key)

    def _unuse(self, key: Key) -> None:
        place = self._uses.pop(key, None)
        if place is not None:
            self._users[place].discard(key)
            if not self._users[place]:
                del self._users[place]


def place_of(kind: str, raw: Mapping[str, object]) -> Place:
    """Return the place of an object."""
    metadata = dig(raw, "metadata")
    return Place(kind, text_at(metadata, "namespace"), text_at(metadata, "name"))


def version_of(raw: Mapping[str, object]) -> int:
    """Return the resourceVersion as a number; servers since 1.35 promise that it is one."""
    version = text_at(raw, "metadata", "resourceVersion")
    return int(version) if version.isascii() and version.isdigit() else 0


def member_of(kind: str, raw: Mapping[str, object]) -> Key | None:
    """Return the model that an object's label names."""
    if kind == MODEL.name:
        return None
    name = text_at(dig(raw, "metadata", "labels"), LABEL_MODEL)
    return Key(text_at(raw, "metadata", "namespace"), name) if name else None


def _trimmed(kind: str, raw: Mapping[str, object]) -> Json:
    found = dict(raw)
    metadata = dig(raw, "metadata")
    kept = dict(metadata) if isinstance(metadata, Mapping) else {}
    kept.pop("managedFields", None)
    if kind == POD.name:
        ending = {"deletionTimestamp": kept.get("deletionTimestamp")}
        kept = {k: kept[k] for k in _KEPT_OF_PODS if k in kept} | ending
        found = {
            "spec": {"hostNetwork": dig(raw, "spec", "hostNetwork")},
            "status": raw.get("status"),
        }
    if kind in (NODE.name, REPLICA_SET.name):
        found = {}
    return {**found, "metadata": kept}


def _standing(raw: Mapping[str, object]) -> Standing:
    ready = condition_of(raw, Condition.READY.value)
    return Standing(text_at(ready, "status"), text_at(ready, "reason"))


def _offered(raw: Mapping[str, object]) -> frozenset[str]:
    found = dig(raw, "status", "allocatable")
    amounts = found.items() if isinstance(found, Mapping) else ()
    return frozenset(name for name, amount in amounts if amount != "0")
