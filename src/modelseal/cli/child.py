"""Runs one of the two programs of `modelseal serve` so that it cannot outlive its parent.

    python -m modelseal.cli.child MODULE PARENT_PID

The kernel sends SIGTERM when the parent is gone, however it went.
"""

import ctypes
import os
import runpy
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Tie this process to its parent, then become the program."""
    module, parent = sys.argv[1], int(sys.argv[2])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it went before the kernel was asked
        sys.exit(1)
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
