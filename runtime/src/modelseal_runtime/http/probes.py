"""Probes and metrics on a port of their own: `/livez`, `/readyz`, `/metrics`."""

import asyncio
from collections.abc import Callable
from typing import Final

from modelseal_runtime.http.connection import Cancel
from modelseal_runtime.http.messages import Body, Head, Header, Reply
from modelseal_runtime.metrics import Metrics
from modelseal_runtime.protocol.failure import Failure
from modelseal_runtime.serving import Serving

_TEXT: Final = b"text/plain; charset=utf-8"
_METRICS: Final = b"text/plain; version=0.0.4; charset=utf-8"
_MAX_BODY: Final = 1024
HOLD_SECONDS: Final = 0.8
"""How long `/readyz` may wait for a model that is on its way; a probe gives up after a second."""


class ProbeApplication:
    """Says whether the process lives, whether it is ready, and what it counted."""

    def __init__(self, serving: Serving, metrics: Metrics, alive: Callable[[], bool]) -> None:
        self._serving: Final = serving
        self._metrics: Final = metrics
        self._alive: Final = alive
        self._held: Final[set[Callable[[], None]]] = set()

    def admit(self, head: Head) -> int:
        """Return how long a body may be; it is not looked at."""
        return _MAX_BODY

    def answer(self, head: Head, body: Body, respond: Callable[[Reply], None]) -> Cancel | None:
        """Answer one request: at once, or as soon as the model is there, within a bound.

        The kubelet asks once a second at most: an early no would cost a whole one.
        """
        if head.path != "/readyz" or not self._serving.coming:
            respond(self._reply(head.method, head.path))
            return None

        def done() -> None:
            forget()
            respond(self._reply(head.method, head.path))

        def forget() -> None:
            timer.cancel()
            self._held.discard(done)

        timer = asyncio.get_running_loop().call_later(HOLD_SECONDS, done)
        self._held.add(done)
        return forget

    def phase_changed(self) -> None:
        """Answer those who wait for a model, if it is no longer on its way."""
        if not self._serving.coming:
            for done in tuple(self._held):
                done()

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
