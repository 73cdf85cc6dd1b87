"""Requests and answers of HTTP, as values. No I/O here."""

import re
import zlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from modelseal.errors import shown
from modelseal_runtime.protocol.failure import Failure, Kind, invalid
from modelseal_runtime.protocol.rest import JSON_TYPE

Body = bytes | bytearray
Header = tuple[bytes, bytes]

RETRY_SECONDS: Final = 1
COMPRESS_FROM: Final = 4096
"""Smaller answers are not compressed, even for a client that takes it."""
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_WINDOWS: Final = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
_ENCODINGS: Final = (b"", b"identity", *_WINDOWS)
_NO_WEIGHT: Final = re.compile(rb"q\s*=\s*0(\.0*)?")


class Head(NamedTuple):
    """A request before its body; the names of the headers are in lower case."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]


class Reply(NamedTuple):
    """An answer; `close` ends the connection behind it."""

    status: int = 200
    body: bytes = b""
    content_type: bytes = JSON_TYPE
    headers: tuple[Header, ...] = ()
    close: bool = False


def json_reply(value: Any, status: int = 200) -> Reply:
    """Return a JSON answer."""
    return Reply(status=status, body=orjson.dumps(value))


def failure_reply(failure: Failure, *headers: Header) -> Reply:
    """Return the protocol's error object with the status of the failure."""
    if failure.kind in (Kind.BUSY, Kind.UNAVAILABLE):
        headers = (*headers, (b"retry-after", b"%d" % RETRY_SECONDS))
    body = orjson.dumps({"error": failure.message})
    return Reply(status=failure.kind.http, body=body, headers=headers)


def content_length(headers: Mapping[bytes, bytes], limit: int) -> int | None:
    """Return the announced length of the body, if there is one.

    Raises:
        Failure: it is beyond the limit.

    """
    value = headers.get(b"content-length")
    length = None if value is None else whole_number("Content-Length", value)
    if length is not None and length > limit:
        raise too_large(limit)
    return length


def whole_number(name: str, value: bytes) -> int:
    """Return a header's number.

    Raises:
        Failure: it is not a whole number.

    """
    if not value.isdigit() or len(value) > 15:
        raise invalid(f"the header {name} is {shown(value.decode('latin-1'))}, not a number")
    return int(value)


def known_encoding(value: bytes) -> bytes:
    """Return the content encoding of a body, empty where it has none.

    Raises:
        Failure: it is not one that can be undone.

    """
    encoding = value.strip().lower()
    if encoding not in _ENCODINGS:
        raise Failure(
            Kind.ENCODING,
            f"the content encoding {shown(encoding.decode('latin-1'))} is not supported; "
            "use gzip or deflate",
        )
    return b"" if encoding == b"identity" else encoding


def decompress(body: Body, limit: int) -> bytes:
    """Undo gzip or deflate, up to the limit.

    Raises:
        Failure: the body is damaged, or expands beyond the limit.

    """
    stream = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error:
        raise invalid("the body is not what its content encoding says") from None
    if len(plain) > limit:
        raise too_large(limit)
    if not stream.eof or stream.unused_data:
        raise invalid("the body is not what its content encoding says")
    return plain


def wanted_encoding(accepted: bytes) -> bytes:
    """Return the encoding that a client's `Accept-Encoding` asks for, empty for none."""
    for part in accepted.lower().split(b","):
        name, _, weight = part.partition(b";")
        if name.strip() in _WINDOWS and not _NO_WEIGHT.fullmatch(weight.strip()):
            return name.strip()
    return b""


def compress(body: bytes, encoding: bytes) -> bytes:
    """Return the body in an encoding of `wanted_encoding`, at the fastest level."""
    stream = zlib.compressobj(1, zlib.DEFLATED, _WINDOWS[encoding])
    return stream.compress(body) + stream.flush()


def too_large(limit: int) -> Failure:
    """Return the failure of a body beyond the limit."""
    return Failure(Kind.TOO_LARGE, f"the body of the request is larger than {limit} bytes")
