"""Makes "the agent never forks" a fact instead of a habit (design section 8, "The lease").

A child would keep the runtime's connection open after the agent's death, and the runtime would take
a dead agent for a live one.
"""

import sys
from typing import Final

from modelseal.errors import HardeningError

_FORKING: Final = frozenset(
    {
        "os.fork",
        "os.forkpty",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.system",
        "subprocess.Popen",
        "pty.spawn",
    }
)


def forbid_forking() -> None:
    """Make every later attempt of this process to start another one raise `HardeningError`."""
    sys.addaudithook(_refuse)


def _refuse(event: str, _: tuple[object, ...]) -> None:
    if event in _FORKING:
        raise HardeningError("failed to start a process: the agent never does")
