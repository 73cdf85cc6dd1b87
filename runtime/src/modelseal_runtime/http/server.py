"""uvicorn inside our own loop and with our own signals."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn

from modelseal.errors import PortInUse, SettingsError, shown
from modelseal_runtime.http.connection import BoundedConnection

KEEP_ALIVE_SECONDS: Final = 75
BACKLOG: Final = 2048
_ADDRESS_IN_USE: Final = 98


class Server(uvicorn.Server):
    """A server that leaves the signals to the program."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def server(application: Any) -> Server:
    """Return a server for an ASGI application, to be run with a listening socket."""
    return Server(
        uvicorn.Config(
            application,
            http=BoundedConnection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
    )


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
