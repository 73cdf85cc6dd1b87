"""Reading objects of the API server without trusting their shape."""

from collections.abc import Mapping
from datetime import UTC, datetime


def dig(value: object, *path: str) -> object:
    """Return what lies at the path, or None if something on the way is not an object."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def text_at(value: object, *path: str) -> str:
    """Return the text at the path, or an empty one."""
    found = dig(value, *path)
    return found if isinstance(found, str) else ""


def number_at(value: object, *path: str) -> int:
    """Return the whole number at the path, or 0."""
    found = dig(value, *path)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def objects_at(value: object, *path: str) -> list[Mapping[str, object]]:
    """Return the objects of the list at the path."""
    found = dig(value, *path)
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def condition_of(value: object, kind: str) -> Mapping[str, object]:
    """Return the status condition of a kind, or an empty object."""
    conditions = objects_at(value, "status", "conditions")
    return next((found for found in conditions if found.get("type") == kind), {})


def seconds_since(text: object, now: datetime) -> float:
    """Return for how long a time of the API server has passed; 0 if it is none."""
    try:
        moment = datetime.fromisoformat(text if isinstance(text, str) else "")
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        return 0.0
    return max((now - moment.astimezone(UTC)).total_seconds(), 0.0)
