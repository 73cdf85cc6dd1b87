"""A TLS proxy in front of a real key service that answers some requests in its place."""

import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Final

from support.openbao import KeyService

ANY: Final = "0.0.0.0"  # noqa: S104 - so that it is there under a name its certificate lacks
Fault = Callable[["Handler"], None]
"""Answers one request in the server's place, or spoils its answer."""


@dataclass(kw_only=True)
class FaultProxy:
    """What the proxy was asked, and how it misbehaves."""

    service: KeyService
    address: str = ""
    faults: list[Fault] = field(default_factory=list)
    """Each is used for one request, in order; then requests go through again."""
    always: Fault | None = None
    """Used for every request once `faults` is empty."""
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, path and headers of each request."""
    hung: threading.Event = field(default_factory=threading.Event)
    """Set when the proxy ends, so that a hanging answer ends too."""

    def paths(self) -> list[str]:
        """Return the paths that were asked."""
        return [path for _, path, _ in self.asked]


class Handler(BaseHTTPRequestHandler):
    """Forwards a request, or hands it to the next fault."""

    protocol_version = "HTTP/1.1"
    proxy: ClassVar[FaultProxy]

    def do_GET(self) -> None:
        """Answer one request, whatever its method."""
        self.sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.proxy.asked.append((self.command, self.path, dict(self.headers.items())))
        fault = self.proxy.faults.pop(0) if self.proxy.faults else self.proxy.always
        with contextlib.suppress(OSError):
            (fault or through)(self)

    do_POST = do_PUT = do_DELETE = do_LIST = do_GET  # noqa: N815 - as http.server calls them

    def forwarded(self) -> tuple[int, bytes]:
        """Return the real server's answer."""
        server = self.proxy.service.server
        context = ssl.create_default_context(cafile=str(server.ca_file))
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context)
        headers = {name: value for name, value in self.headers.items() if name != "Host"}
        with contextlib.closing(connection):
            connection.request(self.command, self.path, self.sent, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send a whole answer."""
        self.begin(status, len(body), **headers)
        self.wfile.write(body)

    def begin(self, status: int, length: int, **headers: str) -> None:
        """Send the head of an answer."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
        """Stay silent."""


@contextlib.contextmanager
def proxying(service: KeyService) -> Iterator[FaultProxy]:
    """Stand in front of a key service, with its certificate, for as long as the block lasts."""
    proxy = FaultProxy(service=service)
    handler = type("ProxyHandler", (Handler,), {"proxy": proxy})
    with _Server((ANY, 0), handler) as server:
        server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.context.load_cert_chain(service.certificate, service.private_key)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        proxy.address = f"https://127.0.0.1:{server.server_address[1]}"
        try:
            yield proxy
        finally:
            proxy.hung.set()
            server.shutdown()
            thread.join()
            server.hang_up()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    context: ssl.SSLContext

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.connections: set[ssl.SSLSocket] = set()

    def hang_up(self) -> None:
        """End every connection, so that the threads end too."""
        for connection in tuple(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands in the connection's own thread, so that a refused one stops nobody."""
        with (
            contextlib.suppress(OSError),
            self.context.wrap_socket(request, server_side=True) as secured,
        ):
            self.connections.add(secured)
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent about clients that went away."""


def status(code: int, body: bytes = b'{"errors":[]}', **headers: str) -> Fault:
    """Answer with another status."""
    return lambda handler: handler.answer(code, body, **headers)


def through(handler: Handler) -> None:
    """Let one request through, where others do not get through."""
    handler.answer(*handler.forwarded())


def altered(change: Callable[[dict[str, Any]], object]) -> Fault:
    """Let the real server answer, and change its JSON."""

    def fault(handler: Handler) -> None:
        code, body = handler.forwarded()
        document = json.loads(body)
        change(document)
        handler.answer(code, json.dumps(document).encode())

    return fault


def reset_in_body(handler: Handler) -> None:
    """Break the connection with a reset after half of the real answer."""
    code, body = handler.forwarded()
    handler.begin(code, len(body))
    handler.wfile.write(body[: len(body) // 2])
    handler.wfile.flush()
    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.close_connection = True


def cut_in_body(handler: Handler) -> None:
    """End the connection properly after half of the real answer."""
    code, body = handler.forwarded()
    handler.begin(code, len(body))
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


def hang(handler: Handler) -> None:
    """Say nothing until the test is over."""
    handler.proxy.hung.wait()
    handler.close_connection = True


def trickle(handler: Handler) -> None:
    """Send the real answer so slowly that no read of it times out."""
    code, body = handler.forwarded()
    handler.begin(code, len(body))
    for byte in body:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        if handler.proxy.hung.wait(0.1):
            break
    handler.close_connection = True


def endless_with(code: int, **headers: str) -> Fault:
    """Send a body that does not end."""

    def fault(handler: Handler) -> None:
        handler.begin(code, 1 << 40, **headers)
        while not handler.proxy.hung.is_set():
            handler.wfile.write(b"[" * 65536)

    return fault


endless = endless_with(200)
