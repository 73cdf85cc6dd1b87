"""Probes and metrics on a port of their own: `/livez`, `/readyz`, `/metrics`."""

from collections.abc import Callable
from typing import Final

from modelseal_runtime.http.messages import Body, Head, Header, Reply
from modelseal_runtime.metrics import Metrics
from modelseal_runtime.protocol.failure import Failure
from modelseal_runtime.serving import Serving

_TEXT: Final = b"text/plain; charset=utf-8"
_METRICS: Final = b"text/plain; version=0.0.4; charset=utf-8"
_MAX_BODY: Final = 1024


class ProbeApplication:
    """Says whether the process lives, whether it is ready, and what it counted."""

    def __init__(self, serving: Serving, metrics: Metrics, alive: Callable[[], bool]) -> None:
        self._serving: Final = serving
        self._metrics: Final = metrics
        self._alive: Final = alive

    def admit(self, head: Head) -> int:
        """Return how long a body may be; it is not looked at."""
        return _MAX_BODY

    def answer(self, head: Head, body: Body, respond: Callable[[Reply], None]) -> None:
        """Answer one request."""
        respond(self._reply(head.method, head.path))

    def refused(self, head: Head | None, failure: Failure) -> tuple[Header, ...]:
        """Take no note of what was refused."""
        return ()

    def _reply(self, method: str, path: str) -> Reply:
        if method not in ("GET", "HEAD"):
            return Reply(status=405, content_type=_TEXT, headers=((b"allow", b"GET, HEAD"),))
        if path == "/metrics":
            return Reply(body=self._metrics.render(), content_type=_METRICS)
        if path == "/livez":
            return _state(self._alive(), "live")
        if path == "/readyz":
            return _state(self._serving.ready, self._serving.phase.value)
        return Reply(status=404, body=b"not found\n", content_type=_TEXT)


def _state(good: bool, word: str) -> Reply:
    return Reply(status=200 if good else 503, body=f"{word}\n".encode(), content_type=_TEXT)
