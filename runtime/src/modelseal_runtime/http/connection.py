"""One HTTP/1.1 connection: a parser in C, a bound for everything, and nothing per byte in Python.

A request goes from the parser to the application as a value, and its answer comes back by a call,
so a request costs neither a task nor a future. One request is answered at a time; the next ones
of a pipelining client wait unread in the kernel. What is refused before its body came is answered
at once, and the rest of the body is thrown away for a moment, because closing on unread bytes
would reset the connection and take the answer with it.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import unquote

import httptools

from modelseal_runtime.budget import Budget, Hold
from modelseal_runtime.http.messages import Body, Head, Reply, failure_reply, too_large
from modelseal_runtime.protocol.failure import Failure, Kind, as_failure

MAX_HEADER_BYTES: Final = 32 << 10
HEADER_SECONDS: Final = 10.0
KEEP_ALIVE_SECONDS: Final = 75.0
LINGER_SECONDS: Final = 2.0
DISCARD_BYTES: Final = 64 << 10
"""A refused body up to this size is read to its end, so that the connection can go on."""
_TOGETHER: Final = 16 << 10
_STATUS: Final = {
    one.value: f"HTTP/1.1 {one.value} {one.phrase}\r\n".encode() for one in HTTPStatus
}
_STATUS[499] = b"HTTP/1.1 499 Client Closed Request\r\n"

Respond = Callable[[Reply], None]
Cancel = Callable[[], None]


class Application(Protocol):
    """What answers requests; both methods are called on the event loop."""

    def admit(self, head: Head) -> int:
        """Return how long the body may be; raises a `Failure` to refuse the request unread."""

    def answer(self, head: Head, body: Body, respond: Respond) -> Cancel | None:
        """Call `respond` once, now or later; return what to call if the client goes away."""

    def refused(self, head: Head | None, failure: Failure) -> tuple[tuple[bytes, bytes], ...]:
        """Hear of a request that was not answered by `answer`; return further headers."""


class Host(Protocol):
    """What connections share."""

    application: Application
    budget: Budget
    request_seconds: float
    closing: bool
    connections: set["HttpConnection"]
    max_connections: int


class _Exchange:
    """A request on its way in."""

    __slots__ = ("body", "cancel", "discarded", "failure", "head", "hold", "keep_alive", "limit")

    def __init__(self, head: Head, hold: Hold, *, keep_alive: bool) -> None:
        self.head: Final = head
        self.hold: Final = hold
        self.keep_alive = keep_alive
        self.limit = 0
        self.body: Body = b""
        self.failure: Failure | None = None
        self.discarded = 0
        self.cancel: Cancel | None = None


class HttpConnection(asyncio.Protocol):
    """Parses requests, has them answered one after the other, and keeps the bounds."""

    def __init__(self, host: Host) -> None:
        self._host: Final = host
        self._loop: Final = asyncio.get_running_loop()
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._headers: dict[bytes, bytes] = {}
        self._url = b""
        self._header_bytes = 0
        self._in_header = False
        self._reading: _Exchange | None = None
        self._active: _Exchange | None = None
        self._waiting: Final[deque[_Exchange]] = deque()
        self._lingering = False
        self._unsent: Hold | None = None
        self.deadline = math.inf
        """When the peer must have done what is expected of it, on the loop's clock."""

    @property
    def unread(self) -> int:
        """Bytes of answers that the peer has not read yet."""
        return 0 if self._unsent is None else int(self._transport.get_write_buffer_size())

    # What the transport says.

    def connection_made(self, transport: Any) -> None:
        """Count the connection, and give its first request a time."""
        self._transport = transport
        transport.set_write_buffer_limits(high=0)
        self._host.connections.add(self)
        self._expect(HEADER_SECONDS)
        if len(self._host.connections) > self._host.max_connections:
            self._refuse(Failure(Kind.BUSY, "there are too many connections"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop what was on its way."""
        self._host.connections.discard(self)
        self._parser = None
        for exchange in (self._reading, self._active, *self._waiting):
            if exchange is not None:
                exchange.hold.release()
        active, self._active, self._reading = self._active, None, None
        self._waiting.clear()
        self._all_sent()
        if active is not None and active.cancel is not None:
            active.cancel()

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        if self._lingering:
            return
        if self._in_header or self._reading is None:
            self._header_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._only_this_one()
        except httptools.HttpParserError:
            self._refuse(_not_http())
            return
        if self._in_header and self._header_bytes > MAX_HEADER_BYTES:
            self._refuse(_long_header())

    def eof_received(self) -> bool:
        """Take the end of the peer's stream for its end."""
        return False

    def pause_writing(self) -> None:
        """Give a peer that does not read a time, and its answer a place in the budget."""
        hold = self._host.budget.hold()
        try:
            hold.grow(self._transport.get_write_buffer_size())
        except Failure:
            self._transport.abort()
            return
        self._unsent = hold
        self._expect(self._host.request_seconds)

    def resume_writing(self) -> None:
        """Go on when everything was sent."""
        self._all_sent()
        self._expect(KEEP_ALIVE_SECONDS)
        self._next()

    # What the parser says.

    def on_message_begin(self) -> None:
        """Begin to wait for the header."""
        self._headers, self._url, self._in_header = {}, b"", True
        if self._active is None:
            self._expect(HEADER_SECONDS)

    def on_url(self, url: bytes) -> None:
        """Take a part of the address."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Decide about the body."""
        self._in_header = False
        headers = self._headers
        size = len(self._url) + sum(map(len, headers)) + sum(map(len, headers.values()))
        self._header_bytes = 0
        head = Head(self._parser.get_method().decode("latin-1"), _path(self._url), headers)
        exchange = _Exchange(
            head, self._host.budget.hold(), keep_alive=self._parser.should_keep_alive()
        )
        self._reading = exchange
        self._expect(self._host.request_seconds)
        try:
            if size > MAX_HEADER_BYTES:
                raise _long_header()
            exchange.limit = self._host.application.admit(head)
            packed = b"content-encoding" in headers
            exchange.hold.grow(
                exchange.limit if packed else int(headers.get(b"content-length", b"0"))
            )
        except Exception as error:  # whatever a client sends, the server goes on
            self._turn_away(exchange, as_failure(error))
            return
        if headers.get(b"expect", b"").lower() == b"100-continue" and self._active is None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        """Take a part of the body, within its limit."""
        exchange = self._reading
        if exchange is None:
            return
        size = len(exchange.body) + len(part)
        if exchange.failure is not None:
            exchange.discarded += len(part)
            if exchange.discarded > DISCARD_BYTES:
                self._refuse(exchange.failure, exchange)
            return
        if size > exchange.limit:
            self._turn_away(exchange, too_large(exchange.limit))
            return
        try:
            exchange.hold.grow(size)
        except Failure as failure:
            self._turn_away(exchange, failure)
            return
        if not exchange.body:
            exchange.body = part
            return
        if not isinstance(exchange.body, bytearray):
            exchange.body = bytearray(exchange.body)
        exchange.body += part

    def on_message_complete(self) -> None:
        """Have the request answered, or keep it for later."""
        exchange, self._reading = self._reading, None
        if exchange is None or self._lingering:
            return
        self.deadline = math.inf
        self._waiting.append(exchange)
        if self._active is None and self._unsent is None:
            self._next()
        else:
            self._transport.pause_reading()

    # What the server says.

    def check(self, now: float) -> None:
        """End the connection if its peer did not do in time what was expected."""
        if now < self.deadline:
            return
        if self._lingering or self._unsent is not None:
            self._transport.abort()
        elif self._reading is not None:
            failure = Failure(Kind.SLOW, "the body of the request did not come in time")
            self._refuse(failure, self._reading)
        elif self._in_header:
            self._refuse(Failure(Kind.SLOW, "the header of the request did not come in time"))
        else:
            self._transport.close()

    def shut_down(self) -> None:
        """Close now, or behind the answer that is being made."""
        if self._active is None and self._unsent is None and not self._waiting:
            self._transport.close()

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._transport.abort()

    # Answering.

    def _next(self) -> None:
        while self._waiting and self._active is None and self._unsent is None:
            exchange = self._waiting.popleft()
            if not self._waiting:
                self._transport.resume_reading()
            self._active = exchange
            if exchange.failure is not None:
                self._respond(exchange, self._refusal(exchange.failure, exchange))
            else:
                self._answer(exchange)

    def _answer(self, exchange: _Exchange) -> None:
        body, exchange.body = exchange.body, b""

        def respond(reply: Reply) -> None:
            self._respond(exchange, reply)

        try:
            cancel = self._host.application.answer(exchange.head, body, respond)
        except Exception as error:  # whatever a client sends, the server goes on
            respond(self._refusal(as_failure(error), exchange))
            return
        if self._active is exchange:
            exchange.cancel = cancel

    def _respond(self, exchange: _Exchange, reply: Reply) -> None:
        exchange.hold.release()
        if self._active is not exchange:
            return
        self._active = None
        keep_alive = exchange.keep_alive and not reply.close and not self._host.closing
        self._expect(HEADER_SECONDS if self._in_header else KEEP_ALIVE_SECONDS)
        self._write(reply, keep_alive=keep_alive, bodiless=exchange.head.method == "HEAD")
        if not keep_alive:
            self._waiting.clear()
            self._transport.close()
        elif self._waiting:
            self._loop.call_soon(self._next)

    def _write(self, reply: Reply, *, keep_alive: bool, bodiless: bool = False) -> None:
        lines = [
            _STATUS[reply.status],
            b"content-type: ",
            reply.content_type,
            b"\r\ncontent-length: %d\r\n" % len(reply.body),
        ]
        for name, value in reply.headers:
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
        if not bodiless and len(reply.body) < _TOGETHER:
            lines.append(reply.body)
        self._transport.write(b"".join(lines))
        if not bodiless and len(reply.body) >= _TOGETHER:
            self._transport.write(reply.body)

    # Refusing.

    def _turn_away(self, exchange: _Exchange, failure: Failure) -> None:
        """Refuse a request whose body is still to come."""
        # Its traceback leads back to the exchange: garbage that only the collector would find.
        exchange.failure = failure.with_traceback(None)
        exchange.body = b""
        exchange.hold.release()
        length = exchange.head.headers.get(b"content-length", b"0")
        short = length.isdigit() and int(length) <= DISCARD_BYTES
        waits = exchange.head.headers.get(b"expect", b"").lower() == b"100-continue"
        if waits or not short or failure.kind is Kind.TOO_LARGE:
            self._refuse(failure, exchange)

    def _refuse(self, failure: Failure, exchange: _Exchange | None = None) -> None:
        """Answer at once, and let the connection end."""
        if self._lingering:
            return
        self._lingering = True
        for one in (exchange, self._reading, *self._waiting):
            if one is not None:
                one.hold.release()
        self._reading = None
        self._waiting.clear()
        if self._active is None:
            self._write(self._refusal(failure, exchange), keep_alive=False)
            self._transport.write_eof()
            self._expect(LINGER_SECONDS)
        else:  # behind the answer that is being made
            self._active.keep_alive = False
            self.deadline = math.inf

    def _refusal(self, failure: Failure, exchange: _Exchange | None) -> Reply:
        head = None if exchange is None else exchange.head
        return failure_reply(failure, *self._host.application.refused(head, failure))

    def _only_this_one(self) -> None:
        """End the connection after a request that asked for another protocol."""
        if self._active is not None:
            self._active.keep_alive = False
        else:
            self._transport.close()

    def _all_sent(self) -> None:
        if self._unsent is not None:
            self._unsent.release()
            self._unsent = None

    def _expect(self, seconds: float) -> None:
        self.deadline = self._loop.time() + seconds


def _path(url: bytes) -> str:
    try:
        path = httptools.parse_url(url).path or b"/"
    except httptools.HttpParserInvalidURLError:
        path = url
    return unquote(path.decode("latin-1")) if b"%" in path else path.decode("latin-1")


def _not_http() -> Failure:
    return Failure(Kind.INVALID, "the request is not HTTP/1.1")


def _long_header() -> Failure:
    return Failure(
        Kind.HEADER, f"the header of the request is longer than {MAX_HEADER_BYTES} bytes"
    )
