"""Hypothesis strategies that put anything anywhere into a JSON object."""

import copy
from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(1 << 70), max_value=1 << 70)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(["", "..", "{owner}", "{", "True", "1e999", "\x00", "🔥", "9" * 400]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def paths(value: object, at: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Return the path of everything inside a JSON value."""
    items: list[tuple[object, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    found = [at] if at else []
    for key, inner in items:
        found += paths(inner, (*at, key))
    return found


def replaced(value: Json, path: tuple[object, ...], new: object) -> Json:
    """Return a copy in which one place holds something else."""
    found = copy.deepcopy(value)
    place: Any = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return found


@st.composite
def mutated(draw: st.DrawFn, base: Json, places: int = 2) -> Json:
    """Draw `base` with up to `places` of its places replaced by anything."""
    found = base
    for _ in range(draw(st.integers(min_value=1, max_value=places))):
        candidates = paths(found)
        if candidates:
            found = replaced(found, draw(st.sampled_from(candidates)), draw(anything))
    return found
