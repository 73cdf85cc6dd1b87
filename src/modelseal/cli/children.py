"""The two programs of `modelseal serve`: started, told their ports, and ended in the right order.

They are the agent and the runtime that a cluster runs, joined by a socketpair. Each is tied to this
process, so it never outlives it, and gets an environment of its own: no key, no token, nothing of
the user's shell.
"""

import contextlib
import importlib.util
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from modelseal.contract import Env
from modelseal.errors import ServingError, SettingsError

AGENT: Final = "modelseal_sidecar"
RUNTIME: Final = "modelseal_runtime"
PORTS_SECONDS: Final = 60.0
STOP_SECONDS: Final = 15.0
MAX_PORTS_BYTES: Final = 4096
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "OCL_ICD_VENDORS")


@dataclass(frozen=True, kw_only=True)
class Child:
    """One started program."""

    name: str
    process: subprocess.Popen[bytes]

    @property
    def exit_code(self) -> int | None:
        """The exit code, or nothing while it runs."""
        return self.process.poll()

    def ports(self) -> dict[str, int]:
        """Wait for the line with the ports that the program listens on; empty where it ended.

        Raises:
            ServingError: the program neither ended nor said its ports.

        """
        line = self._line(time.monotonic() + PORTS_SECONDS)
        try:
            found = json.loads(line) if line else {}
            return {str(name): int(port) for name, port in found.items()}
        except (ValueError, TypeError, AttributeError):
            raise ServingError(
                f"failed to start the {self.name}: it did not say its ports"
            ) from None

    def _line(self, deadline: float) -> bytes:
        assert self.process.stdout is not None  # noqa: S101 - made with a pipe below
        stream, line = self.process.stdout.fileno(), b""
        while not line.endswith(b"\n") and len(line) < MAX_PORTS_BYTES:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                raise ServingError(f"failed to start the {self.name}: it does not answer")
            part = os.read(stream, 1)
            if not part:
                return b""
            line += part
        return line

    def stop(self) -> None:
        """End the program in an orderly way, and by force where that takes too long."""
        self.process.terminate()
        try:
            self.process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def base_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what both programs may see of the user's environment."""
    return {name: environ[name] for name in _KEPT if name in environ}


def require_programs() -> None:
    """Refuse early where the two programs are not installed.

    Raises:
        SettingsError: one of them is missing.

    """
    for module in (AGENT, RUNTIME):
        if importlib.util.find_spec(module) is None:
            package = module.replace("_", "-")
            raise SettingsError(
                f"failed to serve: the package {package} is not installed",
                hint=f"install it beside this one: pip install {package}",
            )


@contextlib.contextmanager
def started(
    *,
    agent: Mapping[str, str],
    runtime: Mapping[str, str],
    descriptors: Sequence[int],
    show_logs: bool,
) -> Iterator[tuple[Child, Child]]:
    """Start agent and runtime; `descriptors` go to the agent only. Both end with the block.

    The runtime ends first: it drains what it has begun, and the agent wipes when it is gone.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with contextlib.ExitStack() as stack:
        with ours, theirs:
            first = _start(AGENT, agent, [ours.fileno(), *descriptors], show_logs=show_logs)
            stack.callback(first.stop)
            second = _start(RUNTIME, runtime, [theirs.fileno()], show_logs=show_logs)
            stack.callback(second.stop)
        yield first, second


def _start(
    module: str, environ: Mapping[str, str], passed: Sequence[int], *, show_logs: bool
) -> Child:
    """Start one program; its socket is the first of the passed descriptors."""
    process = subprocess.Popen(  # noqa: S603 - our own program with our own Python
        [sys.executable, "-P", "-m", "modelseal.cli.child", module, str(os.getpid())],
        env={**environ, Env.SOCKET_FD: str(passed[0])},
        pass_fds=passed,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None if show_logs else subprocess.DEVNULL,
        process_group=0,  # Ctrl-C reaches this process only, which then ends them in order
    )
    return Child(name="agent" if module == AGENT else "runtime", process=process)
