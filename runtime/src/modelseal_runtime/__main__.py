"""`modelseal-runtime`: serve the model that the agent delivers."""

import asyncio
import contextlib
import os
import resource
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

import uvloop

from modelseal.contract import Env
from modelseal.errors import ModelsealError
from modelseal.hardening import harden
from modelseal_runtime import ending, logs
from modelseal_runtime.http.server import MAX_CONNECTIONS
from modelseal_runtime.program import Program
from modelseal_runtime.settings import Settings

SPARE_FILES: Final = 4096
"""Open files beyond HTTP's connections: gRPC's, the agent's socket, OpenVINO's."""


def main() -> NoReturn:
    """Run the program and end the process with its exit code."""
    ending.leave(run(os.environ))


def run(environ: Mapping[str, str]) -> int:
    """Serve until a signal comes; return the exit code (docs/operations.md lists them)."""
    logs.configure("info")
    try:
        settings = Settings.from_env(environ)
        logs.configure(settings.log_level)
        harden(allow_swap=settings.allow_swap)
        ending.prepare()
        leave_directory()
        allow_connections()
        # Not closed: the process ends right after, and a loop that closes waits for every handle.
        loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.run_until_complete(_serve(settings))
    except ModelsealError as error:
        log = environ.get(Env.TERMINATION_LOG)
        ending.explain(error, Path(log) if log else None)
        return error.exit_code
    return 0


async def _serve(settings: Settings) -> None:
    await Program(settings).run()


def leave_directory() -> None:
    """Make the current directory one that is gone, so that no relative path leads anywhere.

    OpenVINO resolves what an ONNX model refers to against the current directory.
    """
    with contextlib.suppress(OSError):
        empty = tempfile.mkdtemp(prefix="modelseal-")
        os.chdir(empty)
        os.rmdir(empty)
        return
    os.chdir("/")


def allow_connections() -> None:
    """Raise the limit of open files to what the connections need, as far as the system lets us."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS + SPARE_FILES
    if most != resource.RLIM_INFINITY:
        wanted = min(wanted, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


if __name__ == "__main__":
    main()
