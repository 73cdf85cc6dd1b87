"""Servers of others that install with pip, each in an environment of its own, with one model."""

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PEERS = Path(__file__).parent / "peers"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A server: its name, its list, and the form and path of its requests."""

    name: str
    listed: str
    form: str
    """`raw`, `binary`, `v2`, `json` or `grpc`."""
    path: str
    """Of its URL; with gRPC the model's name. gRPC has the port after that of HTTP."""


KNOWN = (
    Peer(name="fastapi, bytes", listed="fastapi", form="raw", path="/raw"),
    Peer(name="kserve, binary", listed="kserve", form="binary", path="/v2/models/model/infer"),
    Peer(name="fastapi, JSON", listed="fastapi", form="json", path="/json"),
    Peer(name="mlserver, JSON", listed="mlserver", form="v2", path="/v2/models/model/infer"),
    Peer(name="litserve, JSON", listed="litserve", form="json", path="/predict"),
    Peer(name="kserve, gRPC", listed="kserve", form="grpc", path="model"),
    Peer(name="mlserver, gRPC", listed="mlserver", form="grpc", path="model"),
)


def python(listed: str) -> Path:
    """Return the interpreter of an environment, which is built once and kept in the user's cache.

    Raises:
        subprocess.CalledProcessError: it cannot be built.

    """
    source = PEERS / f"{listed}.txt"
    key = hashlib.sha256(source.read_bytes() + sys.version.encode()).hexdigest()[:16]
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base, "modelseal", "peers", f"{listed}-{key}")
    if not (folder / ".ready").exists():
        tool = [sys.executable, "-m", "uv"]
        subprocess.run(
            [*tool, "venv", "-q", "--clear", "--python", sys.executable, folder], check=True
        )
        target = ["--python", str(folder / "bin" / "python"), "--require-hashes", "-r", str(source)]
        subprocess.run([*tool, "pip", "install", "-q", *target], check=True)
        (folder / ".ready").touch()
    return folder / "bin" / "python"


@contextlib.contextmanager
def serving(listed: str, model: Path, hint: str) -> Iterator[tuple[int, int]]:
    """Start a peer; yield its port and its process id."""
    port = _free_port()
    environ = {
        **os.environ,
        "BENCH_MODEL": str(model), "BENCH_HINT": hint, "BENCH_PORT": str(port),
    }  # fmt: skip
    process = subprocess.Popen(
        [python(listed), PEERS / f"{listed}_app.py"],
        env=environ, cwd=model.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        _wait(port, process)
        yield port, process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def _wait(port: int, process: "subprocess.Popen[bytes]", seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError("a peer ended before it listened")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            time.sleep(1)  # it listens before its model is there
            return
        time.sleep(0.1)
    raise RuntimeError("a peer does not listen")


def _free_port() -> int:
    """Return a port that is free together with the two behind it."""
    while True:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            with contextlib.suppress(OSError):
                for offset in (1, 2):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port + offset))
                return port
