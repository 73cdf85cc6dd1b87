"""One kept connection to a key service, with as little as possible between us and it.

It follows no redirect, reads no environment, uses no proxy, decodes no compressed body and tries
nothing twice: whoever uses it decides what an answer or a failure means. A general HTTP library
would spend several times the processor time that a question takes here, which is what limits
rewrapping many models (docs/performance.md).
"""

import http.client
import select
import ssl
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

MAX_ANSWER: Final = 1 << 20
_PORTS: Final = {"https": http.client.HTTPS_PORT, "http": http.client.HTTP_PORT}
"""Given in full, because http.client takes the end of an IPv6 address for a port."""


class WireError(Exception):
    """No whole answer came; its text names no address and nothing that was sent."""


class WireTimeout(WireError):
    """It did not come in time."""


class WireUntrusted(WireError):
    """The server's certificate is not trusted, or not for this host; nothing was sent."""


class WireTooLong(WireError):
    """The answer is longer than any."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How many seconds each step may take."""

    connect: float
    read: float
    """For each read of an answer."""
    answer: float
    """For the whole body of an answer, however steadily it drips."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer: its status, its `Retry-After`, and its whole body."""

    status: int
    retry_after: str
    body: bytes


class Wire:
    """A connection that is opened when it is needed, and anew after every failure; no locks."""

    def __init__(self, address: str, *, context: ssl.SSLContext, patience: Patience) -> None:
        """Prepare; nothing is asked yet.

        Args:
            address: `https://HOST:PORT`, or `http://`, perhaps with a path.
            context: whom to trust.
            patience: how long to wait.

        """
        parts = urlsplit(address)
        self._host: Final = parts.hostname or ""
        self._port: Final = parts.port or _PORTS[parts.scheme]
        self._context: Final = context if parts.scheme == "https" else None
        self._path: Final = parts.path.rstrip("/")
        self._patience: Final = patience
        self._open: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        """Send one request and read the whole answer.

        Raises:
            WireError: no whole answer came; the next request uses a new connection.

        """
        try:
            connection = self._connection()
            connection.request(method, f"{self._path}/{path.lstrip('/')}", body, dict(headers))
            return self._reply(connection.getresponse())
        except BaseException as error:
            self.close()
            if isinstance(error, TimeoutError):
                raise WireTimeout from None
            if isinstance(error, OSError | http.client.HTTPException):
                raise WireError from None
            raise

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._open is not None:
            self._end()
            self._open = None

    def _connection(self) -> http.client.HTTPConnection:
        if self._open is not None and _went_away(self._open):
            self.close()
        if self._open is None:
            self._open = self._connected()
            self._end = weakref.finalize(self, self._open.close)
        return self._open

    def _connected(self) -> http.client.HTTPConnection:
        seconds = self._patience.connect
        connection = (
            http.client.HTTPConnection(self._host, self._port, timeout=seconds)
            if self._context is None
            else http.client.HTTPSConnection(
                self._host, self._port, timeout=seconds, context=self._context
            )
        )
        try:
            connection.connect()
        except ssl.SSLEOFError:
            raise WireError from None
        except ssl.SSLError:
            raise WireUntrusted from None
        connection.sock.settimeout(self._patience.read)
        return connection

    def _reply(self, response: http.client.HTTPResponse) -> Reply:
        deadline = time.monotonic() + self._patience.answer
        body = bytearray()
        while part := response.read1(MAX_ANSWER + 1 - len(body)):
            body += part
            if len(body) > MAX_ANSWER:
                raise WireTooLong
            if time.monotonic() > deadline:
                raise WireTimeout
        if response.length:
            raise WireError
        response.close()
        return Reply(
            status=response.status,
            retry_after=response.getheader("Retry-After", ""),
            body=bytes(body),
        )


def _went_away(connection: http.client.HTTPConnection) -> bool:
    """Say whether the server ended a kept connection, or sent what nobody asked for."""
    if connection.sock is None:
        return True
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))
