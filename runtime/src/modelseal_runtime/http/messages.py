"""Requests and answers of ASGI, as values."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from modelseal.errors import shown
from modelseal_runtime.budget import Hold
from modelseal_runtime.protocol.failure import Failure, Kind, invalid
from modelseal_runtime.protocol.rest import JSON_TYPE

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_ENCODINGS: Final = (b"", b"identity", b"gzip", b"deflate")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """An answer: status, body and further headers."""

    status: int = 200
    body: bytes = b""
    content_type: bytes = JSON_TYPE
    headers: tuple[Header, ...] = field(default=())


def json_reply(value: Any, status: int = 200) -> Reply:
    """Return a JSON answer."""
    return Reply(status=status, body=orjson.dumps(value))


def failure_reply(failure: Failure, *headers: Header) -> Reply:
    """Return the protocol's error object with the status of the failure."""
    if failure.kind in (Kind.BUSY, Kind.UNAVAILABLE):
        headers = (*headers, (b"retry-after", b"1"))
    if failure.kind in (Kind.TOO_LARGE, Kind.SLOW):  # the rest of the body is not read
        headers = (*headers, (b"connection", b"close"))
    return Reply(
        status=failure.kind.http, body=orjson.dumps({"error": failure.message}), headers=headers
    )


async def send_reply(send: Send, reply: Reply, *, close: bool = False) -> None:
    """Send an answer."""
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", b"%d" % len(reply.body)),
        *reply.headers,
    ]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def content_length(headers: Mapping[bytes, bytes], limit: int) -> int | None:
    """Return the announced length of the body, if there is one.

    Raises:
        Failure: it is beyond the limit.

    """
    value = headers.get(b"content-length")
    length = None if value is None else whole_number("Content-Length", value)
    if length is not None and length > limit:
        raise _too_large(limit)
    return length


def whole_number(name: str, value: bytes) -> int:
    """Return a header's number.

    Raises:
        Failure: it is not a whole number.

    """
    if not value.isdigit() or len(value) > 15:
        raise invalid(f"the header {name} is {shown(value.decode('latin-1'))}, not a number")
    return int(value)


async def read_body(receive: Receive, limit: int, seconds: float, hold: Hold) -> bytes | bytearray:
    """Read a whole body into its share of the memory for requests.

    Raises:
        Failure: it is longer than the limit, does not come in time, finds no memory, or its sender
            is gone.

    """
    try:
        async with asyncio.timeout(seconds):
            return await _read(receive, limit, hold)
    except TimeoutError:
        raise Failure(Kind.SLOW, "the body of the request did not come in time") from None


async def _read(receive: Receive, limit: int, hold: Hold) -> bytes | bytearray:
    message = await receive()
    body = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body") and len(body) <= limit:
        return bytes(body)
    whole = bytearray(body)
    while message["type"] == "http.request":
        if len(whole) > limit:
            raise _too_large(limit)
        hold.grow(len(whole))
        if not message.get("more_body"):
            return whole
        message = await receive()
        whole += message.get("body", b"")
    raise Failure(Kind.CANCELLED, "the client closed the connection")


def decompress(body: bytes | bytearray, encoding: bytes, limit: int) -> bytes | bytearray:
    """Undo a content encoding, up to the limit.

    Raises:
        Failure: the encoding is unknown, damaged, or expands beyond the limit.

    """
    encoding = encoding.strip().lower()
    if encoding not in _ENCODINGS:
        raise Failure(
            Kind.ENCODING,
            f"the content encoding {shown(encoding.decode('latin-1'))} is not supported; "
            "use gzip or deflate",
        )
    if encoding in (b"", b"identity"):
        return body
    stream = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error:
        raise invalid("the body is not what its content encoding says") from None
    if len(plain) > limit:
        raise _too_large(limit)
    if not stream.eof or stream.unused_data:
        raise invalid("the body is not what its content encoding says")
    return plain


def _too_large(limit: int) -> Failure:
    return Failure(Kind.TOO_LARGE, f"the body of the request is larger than {limit} bytes")
