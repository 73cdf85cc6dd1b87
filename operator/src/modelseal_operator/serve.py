"""Health and metrics over HTTP: end to end, not "the server answers"."""

from collections.abc import Callable
from typing import Final

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from modelseal_operator.metrics import Metrics

Check = Callable[[], str | None]
"""Returns what is wrong, or None."""


class HealthServer:
    """Serves /healthz, /readyz and /metrics."""

    def __init__(
        self, *, alive: Check, ready: Check, metrics: Metrics, gauge: Callable[[], None]
    ) -> None:
        self._alive: Final = alive
        self._ready: Final = ready
        self._metrics: Final = metrics
        self._gauge: Final = gauge
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, port: int) -> None:
        """Listen; port 0 lets the kernel choose, and `port` says which."""
        app = web.Application(client_max_size=1024)
        app.router.add_get("/healthz", self._show_health)
        app.router.add_get("/readyz", self._show_readiness)
        app.router.add_get("/metrics", self._show)
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        self._runner = runner
        site = web.TCPSite(runner, None, port)
        await site.start()
        self.port = int(runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner:
            await self._runner.cleanup()

    async def _show_health(self, _: web.Request) -> web.Response:
        return _answer(self._alive())

    async def _show_readiness(self, _: web.Request) -> web.Response:
        return _answer(self._ready())

    async def _show(self, _: web.Request) -> web.Response:
        self._gauge()
        body = generate_latest(self._metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


def _answer(wrong: str | None) -> web.Response:
    return web.Response(text=wrong or "ok", status=503 if wrong else 200)
