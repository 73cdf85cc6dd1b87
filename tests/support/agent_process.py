"""The real agent as a child process, for tests."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import urllib3

from modelseal.contract import Env
from support.agent_peer import BOUND, until

LOCAL: Final = "127.0.0.1"


_AT_A_CLOCK: Final = """
import datetime, runpy, sys

class Jumping(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        with open(sys.argv[1]) as file:
            return super().now(tz) + datetime.timedelta(seconds=float(file.read()))

datetime.datetime = Jumping
runpy.run_module("modelseal_sidecar", run_name="__main__", alter_sys=True)
"""


def _program(clock: Path | None) -> list[str]:
    """Return the agent as it is, or with a wall clock of our own and everything else as it is."""
    return ["-c", _AT_A_CLOCK, str(clock)] if clock else ["-m", "modelseal_sidecar"]


class AgentProcess:
    """One run of `python -m modelseal_sidecar`; ended with the block, however it stands."""

    def __init__(
        self,
        folder: Path,
        environ: Mapping[Env, str],
        *,
        descriptors: Iterable[int] = (),
        uid: int | None = None,
        clock: Path | None = None,
    ) -> None:
        """Start the agent with exactly `environ`, as user `uid` where given.

        Args:
            folder: where its log and termination message are written; writable for `uid`.
            environ: the agent's own variables.
            descriptors: inherited by the agent.
            uid: the user and group that the agent runs as.
            clock: a file with the seconds by which its wall clock is wrong at each moment.

        """
        self._folder: Final = folder
        self._log: Final = folder / f"agent-{time.monotonic_ns()}.log"
        self._termination: Final = self._log.with_suffix(".json")
        values = {
            Env.REPORT_HOST: LOCAL,
            Env.REPORT_PORT: "0",
            Env.ALLOW_SWAP: "true",
            Env.TERMINATION_LOG: str(self._termination),
            **environ,
        }
        with self._log.open("wb") as log:
            self.process: Final = subprocess.Popen(
                [sys.executable, "-P", "-W", "error", *_program(clock)],
                env={name.value: value for name, value in values.items()},
                pass_fds=tuple(descriptors),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                user=uid,
                group=uid,
                extra_groups=[] if uid is not None else None,
                cwd="/",
            )
        self._port = 0
        self._pool: Final = urllib3.PoolManager(retries=False, timeout=5.0)

    @property
    def pid(self) -> int:
        """The process."""
        return self.process.pid

    @property
    def port(self) -> int:
        """The report's port, as the agent says it on standard output."""
        if not self._port:
            assert self.process.stdout is not None
            ready = select.select([self.process.stdout], [], [], BOUND)[0]
            line = self.process.stdout.readline() if ready else b""
            assert line, f"no port: {self.log_text()}"
            self._port = json.loads(line)["report"]
        return self._port

    def get(self, path: str) -> tuple[int, bytes]:
        """Ask the agent over HTTP."""
        answer = self._pool.request("GET", f"http://{LOCAL}:{self.port}{path}")
        return answer.status, answer.data

    def report(self) -> dict[str, Any]:
        """Return the report."""
        code, body = self.get("/report")
        assert code == 200
        found: dict[str, Any] = json.loads(body)
        return found

    def lease(self) -> int:
        """Return the code of the liveness probe."""
        return self.get("/lease")[0]

    def until_reason(self, reason: str, *, seconds: float = BOUND) -> dict[str, Any]:
        """Wait until the report shows a reason, and return that report."""
        seen: list[dict[str, Any]] = []

        def shows() -> bool:
            seen[:] = [self.report()]
            return bool(seen[0]["reason"] == reason)

        try:
            until(shows, seconds=seconds)
        except AssertionError:
            raise AssertionError(
                f"not {reason} within {seconds} s but {seen}\n{self.log_text()}"
            ) from None
        return seen[0]

    def log_text(self) -> str:
        """Return everything on standard error so far."""
        return self._log.read_text()

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the log, each line of which has to be JSON."""
        return [json.loads(line) for line in self.log_text().splitlines()]

    def termination(self) -> dict[str, Any]:
        """Return the termination message."""
        found: dict[str, Any] = json.loads(self._termination.read_bytes())
        return found

    def termination_size(self) -> int:
        """Return the termination message's length in bytes."""
        return self._termination.stat().st_size

    def wait(self, seconds: float = BOUND) -> int:
        """Return the exit code of an agent that ends by itself."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the agent still runs\n{self.log_text()}") from None

    def stop(self, seconds: float = BOUND) -> int:
        """Ask the agent to end, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(seconds)

    def kill(self) -> None:
        """End the agent without asking."""
        self.process.kill()
        self.process.wait()

    def children(self) -> list[str]:
        """Return the agent's child processes."""
        tasks = Path(f"/proc/{self.pid}/task")
        return [
            child for task in tasks.iterdir() for child in (task / "children").read_text().split()
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._pool.clear()


def descriptor_path(descriptor: int) -> str:
    """Return the path under which a child opens what it inherited."""
    os.set_inheritable(descriptor, True)
    return f"/proc/self/fd/{descriptor}"
