"""A listening socket, its connections, and the clock that ends those whose peers do not go on."""

import asyncio
import socket
from contextlib import suppress
from typing import Any, Final

from modelseal.errors import PortInUse, SettingsError, shown
from modelseal_runtime.budget import Budget
from modelseal_runtime.http.connection import Application, HttpConnection

BACKLOG: Final = 2048
MAX_CONNECTIONS: Final = 4096
TICK_SECONDS: Final = 0.25
_ADDRESS_IN_USE: Final = 98


class HttpServer:
    """Accepts connections from `start` to `stop`."""

    def __init__(self, application: Application, budget: Budget, *, request_seconds: float) -> None:
        self.application: Application = application
        self.budget: Budget = budget
        self.request_seconds: float = request_seconds
        self.max_connections: int = MAX_CONNECTIONS
        self.closing: bool = False
        self.connections: set[HttpConnection] = set()
        self._server: Any = None
        self._clock: asyncio.Task[None] | None = None

    @property
    def unread(self) -> int:
        """Bytes of answers that clients have not read yet."""
        return sum(connection.unread for connection in self.connections)

    async def start(self, listener: socket.socket) -> None:
        """Answer what comes to a listening socket."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: HttpConnection(self), sock=listener, backlog=BACKLOG
        )
        self._clock = asyncio.create_task(self._tick())

    async def stop(self, seconds: float) -> None:
        """Accept no more, let answers leave, and close."""
        self.closing = True
        self._server.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.connections:
                    for connection in tuple(self.connections):
                        connection.shut_down()
                    await asyncio.sleep(0.02)
        for connection in tuple(self.connections):
            connection.abort()
        if self._clock is not None:
            self._clock.cancel()

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = loop.time()
            for connection in tuple(self.connections):
                connection.check(now)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to the address.

    Raises:
        PortInUse: another program listens there.
        SettingsError: the address cannot be used.

    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == _ADDRESS_IN_USE:
            raise PortInUse(f"failed to listen on {shown(host)} port {port}: it is taken") from None
        raise SettingsError(
            f"failed to listen on {shown(host)} port {port}: {error.strerror}"
        ) from error
    return listener
