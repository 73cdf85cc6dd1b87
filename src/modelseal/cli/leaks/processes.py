"""A node's processes: whose they are, what they hold, and how one of them is made to crash.

Standard library only: this runs on nodes, as root, in a pod that sees the node's process ids.
"""

import contextlib
import functools
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from modelseal.cli.leaks import filesystems, places
from modelseal.cli.leaks.needles import Needle
from modelseal.cli.leaks.places import Search

AGENT: Final = "agent"
RUNTIME: Final = "runtime"
KEY_SERVICE: Final = "key service"
OTHER: Final = "other"
_MODULES: Final = {b"modelseal_sidecar": AGENT, b"modelseal_runtime": RUNTIME}
_KEY_SERVICES: Final = frozenset({"bao", "vault"})
_TRAPS: Final = {"x86_64": b"\x0f\x0b", "aarch64": bytes(4)}
"""An instruction that no processor of the kind knows, as long as one that makes a call."""
_SECONDS: Final = 60.0
_POLL: Final = 0.1


def running() -> Iterator[int]:
    """Yield every process of the node that has memory, but for this one."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(path.name) != os.getpid() and (path / "maps").read_text():
                yield int(path.name)


def role(pid: int, pods: Sequence[str]) -> str:
    """Say what a process is: a program of one of these pods (by uid), a key service, or neither."""
    with contextlib.suppress(OSError):
        folder = Path(f"/proc/{pid}")
        groups = (folder / "cgroup").read_text().replace("_", "-")
        if any(uid in groups for uid in pods):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            return next((name for module, name in _MODULES.items() if module in words), OTHER)
        if (folder / "comm").read_text().strip() in _KEY_SERVICES:
            return KEY_SERVICE
    return OTHER


def search_processes(
    needles: Sequence[Needle],
    sought: Mapping[str, Sequence[Needle]],
    pods: Sequence[str],
    since: float,
    tell: Callable[[], object],
) -> dict[str, Search]:
    """Search what every process shows and holds; by place, memory by role.

    Args:
        needles: what nobody's environment, command line or nameless file may hold.
        sought: what the memory of each role is searched for.
        pods: uids of the model's pods.
        since: see `filesystems.search_node`.
        tell: called after each process.

    """
    names = ("environments, command lines", "files without a name", filesystems.IN_MEMORY)
    found = {name: Search() for name in (*names, *map(memory_of, sought))}
    for pid in running():
        who = role(pid, pods)
        found[names[0]].add(places.search_surroundings(pid, needles))
        found[names[1]].add(places.search_open_files(pid, needles, named=False))
        found[names[1]].read += 1  # of most processes there is none to be read
        found[memory_of(who)].add(places.search_memory(pid, sought[who]))
        if who in (AGENT, RUNTIME):
            found[names[2]].add(filesystems.search_memory_of(pid, needles, since))
        tell()
    return found


def memory_of(who: str) -> str:
    """Return the place's name of the memory of a role."""
    return "memory of all other processes" if who == OTHER else f"{who}'s memory"


def crash(program: str, pods: Sequence[str]) -> int:
    """Let a program run into an instruction that does not exist; returns how many died.

    The first process of a container is deaf to signals that it does not handle, which a fault of
    its own is not. The kernel then writes a core file, if it is allowed to.
    """
    trap = _TRAPS[platform.machine()]
    victims = [pid for pid in running() if role(pid, pods) == program]
    for pid in victims:
        with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(_next_instruction(pid) - len(trap))
            memory.write(trap * 2)  # the call itself too: it may be begun again
        for number in (signal.SIGSTOP, signal.SIGCONT):  # it may sleep in a call, and is woken
            os.kill(pid, number)
        _until(functools.partial(_gone, pid))
    return len(victims)


def _gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def _next_instruction(pid: int) -> int:
    """Return where a process goes on when the system call that it waits in ends."""
    found: list[int] = []

    def waits() -> bool:
        words = Path(f"/proc/{pid}/syscall").read_text().split()
        found[:] = [int(words[-1], 16)] if len(words) > 1 else []
        return bool(found)

    _until(waits)
    return found[0]


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("a process does not do what it was made to do")
        time.sleep(_POLL)
