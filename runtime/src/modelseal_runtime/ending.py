"""How the process ends when the right to the model is gone.

Exit is the only wipe of the copies that OpenVINO made, so the process ends within a bound whatever
its threads do. Three clocks see to it: the orderly way, a thread that ends the process without
asking anyone, and an alarm of the kernel for an interpreter that does not come to itself.
"""

import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from modelseal.contract import MAX_TERMINATION_BYTES, RUNTIME_EXIT_BOUND
from modelseal.errors import ModelsealError
from modelseal_runtime.logs import log

ORDERLY_SECONDS: Final = RUNTIME_EXIT_BOUND * 0.5
HARD_SECONDS: Final = RUNTIME_EXIT_BOUND * 0.75
KERNEL_SECONDS: Final = RUNTIME_EXIT_BOUND * 0.95


class Ending:
    """Ends the process once, from any thread."""

    def __init__(self, unload: Callable[[float], None], termination_log: Path | None) -> None:
        """Take what refuses requests and drops the model, within the seconds it is given."""
        self._unload: Final = unload
        self._termination_log: Final = termination_log
        self._lock: Final = threading.Lock()
        self._begun = False

    def __call__(self, error: ModelsealError) -> None:
        """Begin to end because of an error; returns at once."""
        with self._lock:
            if self._begun:
                return
            self._begun = True
        arm_kernel(KERNEL_SECONDS)
        hard = threading.Timer(HARD_SECONDS, os._exit, (error.exit_code,))
        hard.daemon = True
        hard.start()
        threading.Thread(target=self._end, args=(error,), name="ending", daemon=True).start()

    def _end(self, error: ModelsealError) -> None:
        with contextlib.suppress(Exception):
            explain(error, self._termination_log)
            self._unload(ORDERLY_SECONDS)
        leave(error.exit_code)


def explain(error: ModelsealError, termination_log: Path | None) -> None:
    """Log why the process ends, and leave Kubernetes its termination message of fixed texts."""
    log(
        logging.WARNING if error.transient else logging.ERROR,
        "the runtime cannot go on",
        stage=error.stage.title,
        reason=error.reason,
        exitCode=error.exit_code,
        detail=error.message,
        hint=error.hint,
    )
    if termination_log is not None:
        with contextlib.suppress(OSError):
            termination_log.write_bytes(render_termination(error))


def render_termination(error: ModelsealError) -> bytes:
    """Return the termination message: fixed texts of the error's class, at most 1 KiB."""
    kind = type(error)
    document = {
        "stage": kind.stage.title,
        "reason": kind.reason.value,
        "exitCode": kind.exit_code,
        "message": f"the runtime cannot go on: {kind.reason.value} at stage {kind.stage.title}",
        "hint": kind.hint,
    }
    return json.dumps(document).encode()[:MAX_TERMINATION_BYTES]


def prepare() -> None:
    """Let the kernel's alarm end the process; to be called on the main thread."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def arm_kernel(seconds: float) -> None:
    """Let the kernel end the process in `seconds`, even if Python never runs again."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def leave(code: int) -> NoReturn:
    """End now: no destructor and no other thread can hold the process up."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)
