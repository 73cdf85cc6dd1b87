"""Running `modelseal serve` for a test: started, asked, and always ended."""

import contextlib
import http.client
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.cli import program

SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running `modelseal serve --json`."""

    process: "subprocess.Popen[str]"

    def endpoints(self) -> dict[str, Any]:
        """Wait until the model is served."""
        assert self.process.stdout is not None
        text = ""
        for line in self.process.stdout:
            text += line
            if line == "}\n":
                found: dict[str, Any] = json.loads(text)
                return found
        raise AssertionError(f"it ended instead: {self.ended()}")

    def children(self) -> dict[str, int]:
        """Return the process ids of agent and runtime."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parent = path.read_text().rpartition(")")[2].split()[1]
                words = (path.parent / "cmdline").read_bytes().split(b"\0")
                if int(parent) == self.process.pid and b"modelseal.cli.child" in words:
                    found[words[-3].decode()] = int(path.parent.name)
        return found

    def ended(self, seconds: float = SECONDS) -> tuple[int, str]:
        """Wait until it ends by itself; returns exit code and stderr."""
        _, err = self.process.communicate(timeout=seconds)
        assert "Traceback" not in err
        return self.process.returncode, err

    def wait_for_line(self, words: str) -> None:
        """Wait until stderr says something."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if words in line:
                return
        raise AssertionError(f"it never said {words!r}")


@contextlib.contextmanager
def serving(
    *words: str | Path, env: Mapping[str, str], prefix: Sequence[str] = ()
) -> Iterator[Served]:
    """Start the command; it is killed at the end of the block if it still runs."""
    process = subprocess.Popen(
        [*prefix, *program("serve", *words, "--http-port", "0", "--grpc-port", "0", "--json")],
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Served(process=process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=30)
        process.kill()
        process.communicate(timeout=30)


def ask(address: str, path: str, body: object = None) -> Any:
    """Make one request and return the parsed answer."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
    with contextlib.closing(connection):
        content = json.dumps(body) if body is not None else None
        connection.request("POST" if content else "GET", path, content)
        answer = connection.getresponse()
        data = answer.read()
    assert answer.status == 200, data
    return json.loads(data)


def watch(numbers: Sequence[int]) -> list[int]:
    """Return descriptors that become readable when the processes end; the caller closes them."""
    return [os.pidfd_open(number) for number in numbers]


def all_ended(watched: Sequence[int], seconds: float = 60) -> bool:
    """Wait until all watched processes have ended, and close the descriptors."""
    left, until = list(watched), time.monotonic() + seconds
    while left and time.monotonic() < until:
        ready = select.select(left, [], [], max(0.0, until - time.monotonic()))[0]
        left = [one for one in left if one not in ready]
    for one in watched:
        os.close(one)
    return not left


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until a condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        select.select([], [], [], 0.05)
