"""Runs one of the two programs of `modelseal serve` so that it cannot outlive its parent.

    python -m modelseal.cli.child MODULE PARENT_PID

The kernel sends SIGTERM when the parent is gone, however it went.
"""

import runpy
import signal
import sys

from modelseal.cli.processes import end_with


def main() -> None:
    """Tie this process to its parent, then become the program."""
    module, parent = sys.argv[1], int(sys.argv[2])
    end_with(parent, signal.SIGTERM)
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
