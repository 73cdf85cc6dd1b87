"""The runtime as a process, and a pretended agent at the other end of its socket."""

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from modelseal.contract import Env
from modelseal.handover import Channel, File, Hello, Lease, Loaded, LoadFailed, Message, Model
from modelseal.handover import split_files as split
from modelseal.memory import PlaintextMemory, page_aligned

SECONDS = 60.0
Variables = Mapping[Env, str] | Mapping[str, str]


@dataclass(kw_only=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(kw_only=True)
class Runtime:
    """A started runtime."""

    process: subprocess.Popen[bytes]
    log: Path
    ports: dict[str, int] = field(default_factory=dict)

    def ask(
        self,
        path: str,
        body: bytes | None = None,
        *,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        port: str = "rest",
    ) -> Answer:
        """Send one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[port], timeout=SECONDS)
        try:
            verb = method or ("GET" if body is None else "POST")
            connection.request(verb, path, body, dict(headers or {}))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(status=response.status, headers=found, body=response.read())
        finally:
            connection.close()

    def infer(self, request: Mapping[str, Any], name: str = "model") -> Answer:
        """Send an inference request as JSON."""
        return self.ask(f"/v2/models/{name}/infer", json.dumps(request).encode())

    def wait_ready(self) -> None:
        """Wait until the model may be asked."""
        eventually(lambda: self.ask("/readyz", port="health").status == 200, self.describe)

    def exit_code(self, seconds: float = SECONDS) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(seconds)

    def describe(self) -> str:
        """Return what the runtime logged, for a failing test."""
        return self.log.read_text()


@dataclass(kw_only=True)
class Agent:
    """The test's end of the connection, and the memory that it delivered."""

    channel: Channel
    memory: PlaintextMemory | None = None

    def hello(self) -> Message:
        """Return the runtime's first message."""
        return self.next()

    def next(self) -> Message:
        """Return the runtime's next message."""
        self.channel.set_timeout(SECONDS)
        received = self.channel.receive()
        assert received is not None, "the runtime has ended the connection"
        return received[0]

    def deliver(
        self, contents: Mapping[str, bytes], *, valid_for: float = 600.0, model: str = "test/model"
    ) -> Message:
        """Hand over a model with a lease and return what the runtime says of it."""
        files = self.place(contents)
        assert self.memory is not None
        reader = self.memory.reader()
        try:
            self.send_model(files, len(self.memory), [reader], model=model)
        finally:
            os.close(reader)
        self.lease(valid_for)
        answer = self.next()
        assert isinstance(answer, Loaded | LoadFailed)
        return answer

    def place(self, contents: Mapping[str, bytes]) -> list[File]:
        """Write files into sealed memory, each at the start of a page."""
        self.memory = PlaintextMemory(sum(page_aligned(len(data)) for data in contents.values()))
        files, offset = [], 0
        for path, data in contents.items():
            self.memory.view[offset : offset + len(data)] = data
            role = {".xml": "model", ".onnx": "model", ".bin": "weights"}[Path(path).suffix]
            files.append(File(path=path, role=role, offset=offset, length=len(data)))
            offset += page_aligned(len(data))
        self.memory.seal()
        return files

    def send_model(
        self, files: list[File], size: int, descriptors: list[int], model: str = "test/model"
    ) -> None:
        """Announce files in memory of a size, with these descriptors."""
        message = Model(
            model=model, version="3", digest="sha256:" + "ab" * 32, size=size, files=len(files)
        )
        self.channel.send(message, descriptors)
        for run in split(files):
            self.channel.send(run)

    def lease(self, valid_for: float) -> None:
        """Renew the lease."""
        self.channel.send(Lease(valid_for=valid_for))

    def close(self) -> None:
        """End the connection, then free the memory."""
        self.channel.close()
        if self.memory is not None:
            self.memory.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def environment(variables: Variables) -> dict[str, str]:
    """Return the runtime's environment for a test: local, on free ports."""
    settings = {
        Env.HOST: "127.0.0.1",
        Env.REST_PORT: "0",
        Env.GRPC_PORT: "0",
        Env.HEALTH_PORT: "0",
        Env.ALLOW_SWAP: "true",
        "HOME": "/nonexistent",
    }
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    given = {str(name): value for name, value in variables.items()}
    return {**kept, **settings, **given}


@contextlib.contextmanager
def running(
    log: Path, variables: Variables, descriptors: tuple[int, ...] = ()
) -> Iterator[Runtime]:
    """Start the runtime and read its ports; end it with the block."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "modelseal_runtime"],
            env=environment(variables),
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stream,
        )
    runtime = Runtime(process=process, log=log)
    try:
        runtime.ports = json.loads(first_line(process) or "{}")
        yield runtime
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def joined(log: Path, variables: Variables | None = None) -> Iterator[tuple[Runtime, Agent]]:
    """Start the runtime on a socketpair and take its hello."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    number = theirs.fileno()
    inherited = {Env.SOCKET_FD.value: str(number)}
    inherited |= {str(name): value for name, value in (variables or {}).items()}
    with Agent(channel=Channel(ours)) as agent, theirs, running(log, inherited, (number,)) as one:
        theirs.close()
        assert agent.hello() == Hello(protocol=1, empty=True)
        yield one, agent


def first_line(process: subprocess.Popen[bytes], seconds: float = SECONDS) -> bytes:
    """Return the first line of a program's output, or nothing where it ended before."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    assert ready, "the program says nothing"
    return process.stdout.readline()


def eventually(
    condition: Callable[[], bool], describe: Callable[[], str] = str, seconds: float = SECONDS
) -> None:
    """Wait for a condition; fail with a description."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, describe()
        time.sleep(0.02)


def stop(runtime: Runtime) -> None:
    """Send SIGTERM."""
    runtime.process.send_signal(signal.SIGTERM)
