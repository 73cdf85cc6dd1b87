"""A runtime's end of the agent's socket, for tests: real messages, real descriptors, no model."""

import contextlib
import mmap
import os
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from modelseal import handover
from modelseal.memory import map_delivered

BOUND: Final = 60.0
M = TypeVar("M", bound=handover.Message)


def until(condition: Callable[[], object], *, seconds: float = BOUND, what: str = "") -> None:
    """Wait until a condition holds, and fail where it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        select.select([], [], [], 0.01)


@dataclass
class Delivered:
    """What a runtime was handed."""

    model: handover.Model
    descriptor: int
    files: list[handover.File] = field(default_factory=list)

    def map(self) -> mmap.mmap:
        """Map it as the real runtime does."""
        return map_delivered(self.descriptor, self.model.size)

    def content(self) -> dict[str, bytes]:
        """Return every file's bytes."""
        with self.map() as mapping:
            return {
                file.path: mapping[file.offset : file.offset + file.length] for file in self.files
            }


class Peer:
    """One connection of a runtime."""

    def __init__(self, connection: socket.socket) -> None:
        self.channel: Final = handover.Channel(connection)
        self.channel.set_timeout(BOUND)
        self._socket: Final = connection
        self._descriptors: list[int] = []

    @classmethod
    def connect(cls, path: Path) -> Self:
        """Connect to a listening agent, as soon as it listens."""
        deadline = time.monotonic() + BOUND
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                connection.connect(str(path))
            except (FileNotFoundError, ConnectionRefusedError):
                connection.close()
                assert time.monotonic() < deadline, "the agent does not listen"
                select.select([], [], [], 0.01)
            else:
                return cls(connection)

    def hello(self, *, empty: bool = True) -> Self:
        """Say the first message."""
        self.channel.send(handover.Hello(protocol=handover.PROTOCOL, empty=empty))
        return self

    def loaded(self, device: str = "CPU") -> Self:
        """Say that the model is served."""
        self.channel.send(handover.Loaded(device=device, load_seconds=0.25))
        return self

    def expect(self, kind: type[M], seconds: float = BOUND) -> M:
        """Return the next message, which has to be of this kind."""
        self.channel.set_timeout(seconds)
        received = self.channel.receive()
        assert received is not None, "the connection ended"
        message, descriptors = received
        self._descriptors += descriptors
        assert isinstance(message, kind), message
        return message

    def next_of(self, kind: type[M], seconds: float = BOUND) -> M:
        """Return the next message of this kind, leases before it skipped."""
        deadline = time.monotonic() + seconds
        while True:
            self.channel.set_timeout(max(deadline - time.monotonic(), 0.01))
            received = self.channel.receive()
            assert received is not None, "the connection ended"
            if isinstance(received[0], kind):
                return received[0]
            assert isinstance(received[0], handover.Lease), received[0]

    def model(self, seconds: float = BOUND) -> Delivered:
        """Return the model that the agent hands over, and its first lease's arrival."""
        model = self.expect(handover.Model, seconds)
        delivered = Delivered(model=model, descriptor=self._descriptors[-1])
        while len(delivered.files) < model.files:
            delivered.files += self.expect(handover.Files).files
        return delivered

    def silent(self, seconds: float) -> bool:
        """Whether nothing arrives, not even the end of the connection."""
        return not select.select([self.channel.fileno()], [], [], seconds)[0]

    def ended(self, seconds: float = BOUND) -> bool:
        """Whether the agent ends the connection in time; whatever comes before is dropped."""
        deadline = time.monotonic() + seconds
        try:
            while True:
                self.channel.set_timeout(max(deadline - time.monotonic(), 0.01))
                received = self.channel.receive()
                if received is None:
                    return True
                handover.close_all(received[1])
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True

    def refused(self) -> bool:
        """Say hello, and return whether the agent ends the connection without a word."""
        with contextlib.suppress(BrokenPipeError):
            self.hello()
        self.channel.set_timeout(BOUND)
        try:
            return self.channel.receive() is None
        except ConnectionResetError:
            return True

    def raw(self, data: bytes, descriptors: tuple[int, ...] = ()) -> None:
        """Send bytes that need not be a message."""
        if descriptors:
            socket.send_fds(self._socket, [data], list(descriptors))
        else:
            self._socket.send(data)

    def close(self) -> None:
        """End the connection, as the exit of a runtime does."""
        self.channel.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
