"""What a Service of Kubernetes is to clients: one address, and a choice for each new connection."""

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(kw_only=True)
class Service:
    """One address that leads to `target`; connections that are open stay where they are."""

    port: int
    target: int
    """The port of this machine that new connections lead to."""
    opened: int = 0
    """How many connections there were."""


@contextlib.contextmanager
def standing(target: int) -> Iterator[Service]:
    """Forward connections to a port of this machine, as long as the block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as listener, _Pairs(listener) as pairs:
        service = Service(port=listener.getsockname()[1], target=target)
        thread = threading.Thread(target=pairs.forward, args=(service,))
        thread.start()
        try:
            yield service
        finally:
            pairs.ended.set()
            thread.join()


class _Pairs:
    """Connected pairs of sockets, each with the one that its bytes go to."""

    def __init__(self, listener: socket.socket) -> None:
        self.ended = threading.Event()
        self._listener = listener
        self._ready = selectors.DefaultSelector()
        self._ready.register(listener, selectors.EVENT_READ)

    def forward(self, service: Service) -> None:
        while not self.ended.is_set():
            for key, _ in self._ready.select(0.05):
                if key.fileobj is self._listener:
                    self._take(service)
                elif key.data.fileno() >= 0:  # else it was closed with its pair just now
                    self._pass(key.fileobj, key.data)

    def _take(self, service: Service) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", service.target), 10)
        service.opened += 1
        for one, other in ((client, server), (server, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ready.register(one, selectors.EVENT_READ, other)

    def _pass(self, source: object, sink: socket.socket) -> None:
        assert isinstance(source, socket.socket)
        with contextlib.suppress(OSError):
            content = source.recv(1 << 16)
            if content:
                sink.sendall(content)
                return
        self._hang_up(source, sink)

    def _hang_up(self, *sockets: socket.socket) -> None:
        for one in sockets:
            self._ready.unregister(one)
            one.close()

    def __enter__(self) -> "_Pairs":
        return self

    def __exit__(self, *_: object) -> None:
        for key in list(self._ready.get_map().values()):
            if key.fileobj is not self._listener:
                key.fileobj.close()  # type: ignore[union-attr] # all are sockets
        self._ready.close()
