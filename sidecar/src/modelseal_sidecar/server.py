"""The agent's HTTP side: `GET /report`, `/lease` and `/healthz`, and nothing else.

It answers from snapshots and never waits for the rest of the agent, so probes are cheap. It takes
no input: no body, no query, no other method.
"""

import errno
import socket
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import uvicorn

from modelseal.errors import PortInUse, SettingsError, shown
from modelseal_sidecar.report import render_report
from modelseal_sidecar.status import Board, Status

_Message = MutableMapping[str, Any]
_Send = Callable[[_Message], Awaitable[None]]
_MAX_CONNECTIONS: Final = 32
_MAX_REQUEST_HEAD: Final = 8 << 10
_STOP_BOUND: Final = 2.0


def respond(path: str, method: str, status: Status) -> tuple[int, bytes]:
    """Return the answer to one request: a status code and a JSON body."""
    if path not in ("/report", "/lease", "/healthz"):
        return 404, b'{"error":"not found"}'
    if method not in ("GET", "HEAD"):
        return 405, b'{"error":"method not allowed"}'
    if path == "/report":
        return 200, render_report(status)
    good = status.healthy if path == "/lease" else status.started
    return (200, b'{"ok":true}') if good else (503, b'{"ok":false}')


class ReportServer:
    """Serves the board on a port, in a thread of its own."""

    def __init__(self, board: Board, host: str, port: int) -> None:
        """Bind the port; 0 lets the kernel choose.

        Raises:
            PortInUse: somebody listens there.
            SettingsError: the address cannot be listened on.

        """
        self._board: Final = board
        self._socket: Final = _listen(host, port)
        self._server: Final = uvicorn.Server(_configuration(self._answer))
        self._thread: Final = threading.Thread(
            target=self._server.run, args=([self._socket],), name="report", daemon=True
        )

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Begin to answer; the kernel queues requests from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, waiting for it no longer than a bound; idempotent."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(_STOP_BOUND)
        self._socket.close()

    async def _answer(self, scope: _Message, _receive: object, send: _Send) -> None:
        if scope["type"] != "http":
            return
        code, body = respond(scope["path"], scope["method"], self._board.read())
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _configuration(app: Callable[..., Awaitable[None]]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=_MAX_REQUEST_HEAD,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_MAX_CONNECTIONS)
    except OSError as error:
        listener.close()
        kind = PortInUse if error.errno == errno.EADDRINUSE else SettingsError
        raise kind(
            f"failed to listen on port {port} of {shown(host)} for reports: {error.strerror}"
        ) from None
    return listener
