"""How the process ends when the right to the model is gone.

Exit is the only wipe of the copies that OpenVINO made, so the process ends within a bound whatever
its threads do. Three clocks see to it: the orderly way, a thread that ends the process without
asking anyone, and an alarm of the kernel for an interpreter that does not come to itself.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Final, NoReturn

from modelseal.contract import RUNTIME_EXIT_BOUND
from modelseal_runtime.logs import log

ORDERLY_SECONDS: Final = RUNTIME_EXIT_BOUND * 0.5
HARD_SECONDS: Final = RUNTIME_EXIT_BOUND * 0.75
KERNEL_SECONDS: Final = RUNTIME_EXIT_BOUND * 0.95


class Ending:
    """Ends the process once, from any thread."""

    def __init__(self, unload: Callable[[float], None]) -> None:
        """Take what refuses requests and drops the model, within the seconds it is given."""
        self._unload: Final = unload
        self._lock: Final = threading.Lock()
        self._begun = False

    def __call__(self, code: int, why: str) -> None:
        """Begin to end; returns at once."""
        with self._lock:
            if self._begun:
                return
            self._begun = True
        arm_kernel(KERNEL_SECONDS)
        hard = threading.Timer(HARD_SECONDS, os._exit, (code,))
        hard.daemon = True
        hard.start()
        threading.Thread(target=self._end, args=(code, why), name="ending", daemon=True).start()

    def _end(self, code: int, why: str) -> None:
        with contextlib.suppress(Exception):
            log(logging.WARNING, "unloading the model", why=why, exit_code=code)
            self._unload(ORDERLY_SECONDS)
        leave(code)


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
