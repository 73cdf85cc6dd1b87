"""A process that may hold plaintext: undumpable, coreless, and not on a machine that swaps.

Called once at the start of agent and runtime, before any plaintext exists (design section 8).
Standard library only; Linux only.
"""

import ctypes
import os
import resource
from pathlib import Path
from typing import Final

from modelseal.errors import HardeningError, SwapActive

_PR_GET_DUMPABLE: Final = 3
_PR_SET_DUMPABLE: Final = 4
_CORE_LIMIT: Final = 1
"""Zero is ignored where cores are piped to a handler; one means that none is written."""
_ROOT: Final = Path("/")
_SECCOMP: Final = {"0": "off", "1": "strict", "2": "filter"}


def harden(*, allow_swap: bool = False) -> None:
    """Make this process safe to hold plaintext, or refuse.

    Raises:
        HardeningError: the process stays dumpable, or could write a core file.
        SwapActive: memory could reach a disk, and that was not accepted.

    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 or libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0):
        raise HardeningError("failed to harden the process: it stays dumpable")
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (_CORE_LIMIT, _CORE_LIMIT))
    except (OSError, ValueError) as error:
        if resource.getrlimit(resource.RLIMIT_CORE)[0] > _CORE_LIMIT:
            raise HardeningError("failed to harden the process: it may dump core") from error
    _raise_descriptor_limit()
    if not allow_swap and swap_active():
        raise SwapActive("failed to start: swap is active, so plaintext could reach a disk")


def swap_active(root: Path = _ROOT) -> bool:
    """Say whether memory of this process may be swapped out."""
    return len(_text(root / "proc/swaps").splitlines()) > 1 and not _swap_forbidden(root)


def posture(root: Path = _ROOT) -> dict[str, str | int | bool | None]:
    """Measure what protects this process; names are stable, values are facts."""
    status = dict(
        line.split(":\t", 1)
        for line in _text(root / "proc/self/status").splitlines()
        if ":\t" in line
    )
    memlock = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return {
        "dumpable": bool(ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)),
        "swap": swap_active(root),
        "coreLimit": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "corePiped": _text(root / "proc/sys/kernel/core_pattern").startswith("|"),
        "memoryLock": None if memlock == resource.RLIM_INFINITY else memlock,
        "ptraceScope": _number(root / "proc/sys/kernel/yama/ptrace_scope"),
        "seccomp": _SECCOMP.get(status.get("Seccomp", "").strip()),
        "noNewPrivileges": status.get("NoNewPrivs", "").strip() == "1",
        "readOnlyRoot": bool(os.statvfs("/").f_flag & os.ST_RDONLY),
        "userNamespace": _text(root / "proc/self/uid_map").split()[:2] != ["0", "0"],
        "root": os.geteuid() == 0,
    }


def _swap_forbidden(root: Path) -> bool:
    """Say whether the cgroup, on version 2, allows no swap."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            folder = root / "sys/fs/cgroup" / line[3:].strip("/")
            return _text(folder / "memory.swap.max").strip() == "0"
    return False


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
