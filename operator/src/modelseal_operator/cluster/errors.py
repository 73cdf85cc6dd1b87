"""What the API server may answer, by what has to be done about it."""

import json
from typing import Final

from modelseal.contract import Reason
from modelseal.errors import ModelsealError, shown
from modelseal_operator.jsonview import objects_at, text_at


class ClusterError(ModelsealError):
    """A request to the API server failed."""

    reason = Reason.INTERNAL
    transient = True

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after: Final = retry_after


class Unreachable(ClusterError):
    """No usable answer: a time-out, a broken connection, a 5xx."""


class NotLeading(Unreachable):
    """Not sent, because the lease could be another replica's by now."""


class Throttled(ClusterError):
    """The server asks to come back later (429)."""


class Conflict(ClusterError):
    """The object is not the one that was seen, or exists already (409)."""


class Missing(ClusterError):
    """The object does not exist (404)."""


class Refused(ClusterError):
    """The server refuses the request (400, 401, 403, 422): a new try changes nothing by itself."""

    transient = False


def error_of(status: int, body: bytes, what: str, retry_after: str | None) -> ClusterError:
    """Return the error for an answer; the server's sentence is escaped and cut."""
    found = _status(body)
    message = f"failed to {what}: {status} {shown(_sentence(found), 400)}"
    # the server answers 422, not 409, where an object with another uid has the name by now
    if status == 422 and _fields(found) == {"metadata.uid"}:
        status = 409
    known = {404: Missing, 409: Conflict, 429: Throttled}
    wait = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
    if status in known:
        return known[status](message, retry_after=min(wait, 60.0))
    kind = Refused if 400 <= status < 500 else Unreachable
    return kind(message, retry_after=min(wait, 60.0))


def _status(body: bytes) -> dict[str, object]:
    """Return the server's Status object; empty if it is none."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _sentence(found: dict[str, object]) -> str:
    message = found.get("message")
    return message if isinstance(message, str) else "no sentence of the API server"


def _fields(found: dict[str, object]) -> set[str]:
    """Return the fields that the server names as causes."""
    return {text_at(cause, "field") for cause in objects_at(found, "details", "causes")}
