"""HTTP/2 by hand, for a client of gRPC that does not behave."""

import socket
import struct
from collections.abc import Mapping

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, GOAWAY, CONTINUATION = 0, 1, 4, 7, 9
ACK, END_STREAM, END_HEADERS = 1, 1, 4
INITIAL_WINDOW = 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def fields(headers: Mapping[str, str]) -> bytes:
    """Return a header block of literals that no table remembers."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in headers.items())


def call(path: str) -> dict[str, str]:
    """Return the headers of a call of gRPC."""
    return {
        ":method": "POST", ":scheme": "http", ":path": path, ":authority": "x",
        "te": "trailers", "content-type": "application/grpc",
    }  # fmt: skip


def message(payload: bytes) -> bytes:
    """Return a message of gRPC."""
    return b"\0" + struct.pack(">I", len(payload)) + payload


def connected(port: int, settings: Mapping[int, int] | None = None) -> socket.socket:
    """Connect, with the preface and settings sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    pairs = b"".join(struct.pack(">HI", key, value) for key, value in (settings or {}).items())
    connection.sendall(PREFACE + frame(SETTINGS, 0, 0, pairs))
    return connection


def _text(value: str) -> bytes:
    return _length(len(value)) + value.encode("latin-1")


def _length(value: int) -> bytes:
    if value < 127:
        return bytes([value])
    parts, value = [127], value - 127
    while value >= 128:
        parts.append(value % 128 | 128)
        value //= 128
    return bytes([*parts, value])
