"""uvicorn's HTTP/1.1 connection with the limits that it leaves to a proxy."""

import asyncio
from asyncio.events import TimerHandle
from typing import Final

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES: Final = 32 << 10
MAX_CONNECTIONS: Final = 4096
HEADER_SECONDS: Final = 10.0


class BoundedConnection(HttpToolsProtocol):
    """Refuses headers that are too long or too slow, and connections beyond a number."""

    _header_bytes = 0
    _in_header = True
    _timer: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and give its first headers a time."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(503, "there are too many connections")
            return
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; headers that do not end are refused."""
        super().data_received(data)
        if self._in_header and not self.transport.is_closing():
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self._refuse(431, f"the header of the request is longer than {MAX_HEADER_BYTES}")

    def on_message_begin(self) -> None:
        """Start to count and to wait."""
        super().on_message_begin()
        self._in_header, self._header_bytes = True, 0
        if self._timer is None:
            self._arm()

    def on_headers_complete(self) -> None:
        """Refuse a header that came in one piece and is too long."""
        self._in_header = False
        self._disarm()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEADER_BYTES:
            raise ValueError("header too long")  # the parser answers 400 and closes
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP with the protocol's error object."""
        self._refuse(400, "the request is not HTTP/1.1, or its header is too long")

    def _arm(self) -> None:
        self._timer = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self._in_header and self._header_bytes:
            self._refuse(408, "the header of the request did not come in time")
        else:
            self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        body = orjson.dumps({"error": message})
        head = (
            f"HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
