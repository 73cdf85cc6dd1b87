"""Whether a live object already is what is desired (server-side apply would change nothing)."""

from collections.abc import Mapping
from typing import Final

_MERGE_KEYS: Final = ("mountPath", "uid", "name", "containerPort", "topologyKey")
_ATOMIC: Final = frozenset(
    {
        "egress",
        "ingress",
        "labelSelector",
        "podSelector",
        "policyTypes",
        "selector",
    }
)
"""Fields that server-side apply owns as a whole: one more label there selects other pods."""


def contains(live: object, desired: object) -> bool:
    """Tell whether `live` has everything that `desired` says.

    The API server adds defaults, and others may own further fields; what matters is that nothing
    of ours is missing or different. Lists of objects are matched by their key where they have one.
    """
    if isinstance(desired, Mapping):
        if not isinstance(live, Mapping):
            return False
        return all(
            live.get(key) == value if key in _ATOMIC else contains(live.get(key), value)
            for key, value in desired.items()
        )
    if isinstance(desired, list):
        return isinstance(live, list) and _contains_items(live, desired)
    return live == desired


def _contains_items(live: list[object], desired: list[object]) -> bool:
    key = _key_of(desired)
    if key is None:
        pairs = zip(live, desired, strict=False)
        return len(live) == len(desired) and all(contains(a, b) for a, b in pairs)
    found = {item.get(key): item for item in live if isinstance(item, Mapping)}
    return all(
        isinstance(item, Mapping) and contains(found.get(item[key]), item) for item in desired
    )


def _key_of(items: list[object]) -> str | None:
    """Return the field that tells the items apart, if every item has it."""
    objects = [item for item in items if isinstance(item, Mapping)]
    if not items or len(objects) != len(items):
        return None
    return next((key for key in _MERGE_KEYS if all(key in item for item in objects)), None)
