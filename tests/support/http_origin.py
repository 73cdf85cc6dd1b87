"""A real HTTP server for ciphertext, with ranges and ETags, that can be told to misbehave."""

import contextlib
import hashlib
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from support.certificates import Certificates

RANGE = re.compile(r"bytes=(\d+)-(\d+)")
Misbehave = Callable[["Handler"], bool]
"""Answers a request itself and returns true, or leaves it to the server."""


@dataclass(kw_only=True)
class Origin:
    """The server's files, faults and what it was asked."""

    folder: Path
    faults: list[Misbehave] = field(default_factory=list)
    """Each is used for one request, in order."""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    address: str = ""


class Handler(BaseHTTPRequestHandler):
    """Serves files below a folder, one range at a time."""

    protocol_version = "HTTP/1.1"
    origin: ClassVar[Origin]

    def do_GET(self) -> None:
        """Answer one request."""
        self.origin.asked.append((self.path, dict(self.headers.items())))
        if self.origin.faults and self.origin.faults.pop(0)(self):
            return
        path = self.origin.folder / self.path.split("?")[0].lstrip("/")
        if not path.is_file():
            self.answer(404, b"no such file")
            return
        self.send_file(path.read_bytes())

    def send_file(self, data: bytes) -> None:
        """Send the range that was asked for."""
        etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        match = RANGE.fullmatch(self.headers.get("Range", ""))
        if match is None or self.headers.get("If-Range", etag) != etag:
            self.answer(200, data, ETag=etag)
            return
        first, last = int(match[1]), min(int(match[2]), len(data) - 1)
        part = data[first : last + 1]
        self.answer(206, part, ETag=etag, Content_Range=f"bytes {first}-{last}/{len(data)}")

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send a whole answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
        """Stay silent."""


@contextlib.contextmanager
def serving(folder: Path, tls: Certificates | None = None) -> Iterator[Origin]:
    """Serve a folder for as long as the block lasts."""
    origin = Origin(folder=folder)
    handler = type("OriginHandler", (Handler,), {"origin": origin})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        scheme = "https" if tls else "http"
        origin.address = f"{scheme}://127.0.0.1:{server.server_address[1]}"
        try:
            yield origin
        finally:
            server.shutdown()
            thread.join()


def status(code: int, **headers: str) -> Misbehave:
    """Return a fault: another status with a body that must not be shown."""

    def fault(handler: Handler) -> bool:
        handler.answer(code, b"<html>secret body</html>", **headers)
        return True

    return fault


def cut(handler: Handler) -> bool:
    """Break the connection in the middle of a body."""
    handler.send_response(206)
    handler.send_header("Content-Range", "bytes 0-99/100")
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b"x" * 10)
    handler.close_connection = True
    return True
