"""What the agent says about itself, and what exit codes say, as errors of our own tree."""

import contextlib
import http.client
import json
from collections.abc import Iterator
from typing import Any, Final

from modelseal import errors
from modelseal.contract import MAX_REPORT_BYTES, Reason
from modelseal.errors import ModelsealError

HOST: Final = "127.0.0.1"
SECONDS: Final = 2.0
_PROGRESS: Final = frozenset({Reason.STARTING, Reason.SERVING, Reason.WAITING_FOR_RUNTIME})


def read_report(port: int) -> dict[str, Any]:
    """Return the agent's report; empty where it does not answer with one."""
    connection = http.client.HTTPConnection(HOST, port, timeout=SECONDS)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/report")
        return _document(connection.getresponse().read(MAX_REPORT_BYTES + 1))
    return {}


def reason_of(document: dict[str, Any]) -> Reason | None:
    """Return the reason that a report names, if it is one of ours."""
    with contextlib.suppress(ValueError):
        return Reason(document.get("reason", ""))
    return None


def is_progress(reason: Reason) -> bool:
    """Whether a reason says that things go their way."""
    return reason in _PROGRESS


def error_for(reason: Reason, what: str) -> ModelsealError:
    """Return the error of the tree that has this reason, with its hint and exit code."""
    kind = next((kind for kind in _kinds() if kind.reason is reason), ModelsealError)
    return kind(f"{what}: {reason}")


def error_with_code(exit_code: int, what: str) -> ModelsealError:
    """Return the error of the tree that has this exit code, for a program that just ended."""
    kind = next((kind for kind in _kinds() if kind.exit_code == exit_code), None)
    if kind in (None, ModelsealError):  # it ended in a way of its own, and only its log says why
        return ModelsealError(f"{what}: exit code {exit_code}", hint="see --log-level info")
    return kind(f"{what}: {kind.reason}")


def _kinds() -> Iterator[type[ModelsealError]]:
    """Yield the error classes, the most specific ones first."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    found = [kind for kind in kinds if issubclass(kind, ModelsealError)]
    yield from sorted(found, key=lambda kind: -len(kind.__mro__))


def _document(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
