"""Between the operator and a real API server: answers in its place, and watches that go wrong."""

import asyncio
import contextlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from aiohttp import web

from support.control_plane import HOST, ControlPlane, free_ports

Json = dict[str, Any]
_HOP_BY_HOP: Final = frozenset({"host", "connection", "transfer-encoding", "content-length"})


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request, and when it came by the monotonic clock."""

    method: str
    path: str
    at: float

    @property
    def watch(self) -> bool:
        """Whether it asks for a stream of events."""
        return "watch=true" in self.path

    @property
    def write(self) -> bool:
        """Whether it asks for a change of anything but the election's lease."""
        return self.method != "GET" and "/leases" not in self.path


@dataclass(frozen=True, kw_only=True)
class Instead:
    """An answer in the server's place."""

    code: int
    message: str = "out of order"
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> Json:
        """The body, as the API server writes it."""
        said = {"status": "Failure", "message": self.message, "code": self.code}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, **said}


class ApiProxy:
    """Forwards everything until it is told otherwise; runs in a thread of its own."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane: Final = plane
        (self.port,) = free_ports(1)
        self.fault: Callable[[Asked], Instead | None] = lambda _: None
        """Asked before each request is forwarded; may also change the cluster first."""
        self.asked: list[Asked] = []
        self.muted = False
        """Watches stay open and say nothing; what they would have said is lost."""
        self._session: aiohttp.ClientSession | None = None
        self._watches: dict[int, web.Request] = {}
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"https://{HOST}:{self.port}"

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        assert self._started.wait(10)

    def stop(self) -> None:
        """Cut everything off, and end."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def cut_watches(self) -> None:
        """Break every open watch, as a load balancer that restarts."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for request in self._watches.values():
            if request.transport is not None:
                request.transport.abort()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        incoming = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        folder = self._plane.folder
        incoming.load_cert_chain(folder / "server.pem", folder / "server.key")
        outgoing = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        app = web.Application(client_max_size=8 << 20)
        connector = aiohttp.TCPConnector(ssl=outgoing, limit=0)
        # the bytes of an answer go through as they are
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            self._session = session
            app.router.add_route("*", "/{path:.*}", self._answer)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, HOST, self.port, ssl_context=incoming).start()
            self._started.set()
            await self._ended.wait()
            self._cut()
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(method=request.method, path=request.path_qs, at=time.monotonic())
        self.asked.append(asked)
        # in another thread, because it may ask the cluster itself
        instead = await asyncio.to_thread(self.fault, asked)
        if instead is None:
            return await self._forward(request, asked)
        if asked.watch:
            event = json.dumps({"type": "ERROR", "object": instead.status}) + "\n"
            return web.Response(text=event, content_type="application/json")
        return web.json_response(instead.status, status=instead.code, headers=instead.headers)

    async def _forward(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        assert self._session is not None
        reply = await self._session.request(
            request.method,
            self._plane.server + request.raw_path,
            data=await request.read() or None,
            headers=_kept(request.headers.items()),
            timeout=aiohttp.ClientTimeout(total=None, connect=10),
        )
        async with reply:
            answer = web.StreamResponse(status=reply.status, headers=_kept(reply.headers.items()))
            await answer.prepare(request)
            if not asked.watch:
                await answer.write(await reply.read())
                return answer
            self._watches[id(request)] = request
            try:
                async for chunk in reply.content.iter_any():
                    if not self.muted:
                        await answer.write(chunk)
            except ConnectionResetError:  # the watch was cut, or whoever asked has ended
                pass
            finally:
                del self._watches[id(request)]
            return answer


def _kept(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers if name.lower() not in _HOP_BY_HOP}


@contextlib.contextmanager
def between(plane: ControlPlane) -> Iterator[ApiProxy]:
    """Stand in front of a control plane's API server until the block ends."""
    proxy = ApiProxy(plane)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
