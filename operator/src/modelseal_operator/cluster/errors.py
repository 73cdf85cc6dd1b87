"""What the API server may answer, by what has to be done about it."""

import json
from typing import Final

from modelseal.contract import Reason
from modelseal.errors import ModelsealError, shown


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
    message = f"failed to {what}: {status} {shown(_sentence(body), 400)}"
    known = {404: Missing, 409: Conflict, 429: Throttled}
    wait = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
    if status in known:
        return known[status](message, retry_after=min(wait, 60.0))
    kind = Refused if 400 <= status < 500 else Unreachable
    return kind(message, retry_after=min(wait, 60.0))


def _sentence(body: bytes) -> str:
    try:
        found = json.loads(body)
    except ValueError:
        return "no sentence of the API server"
    message = found.get("message") if isinstance(found, dict) else None
    return message if isinstance(message, str) else "no sentence of the API server"
