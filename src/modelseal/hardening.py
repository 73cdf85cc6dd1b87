"""A process that may hold plaintext: undumpable, coreless, and not on a machine that swaps.

Called once at the start of agent and runtime, before any plaintext exists (design section 8).
Standard library only; Linux only.
"""

import ctypes
import os
import resource
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from modelseal.contract import Demand, Posture
from modelseal.errors import HardeningError, PostureRefused, SwapActive

_PR_GET_DUMPABLE: Final = 3
_PR_SET_DUMPABLE: Final = 4
_CORE_LIMIT: Final = 1
"""Zero is ignored where cores are piped to a handler; one means that none is written."""
_ROOT: Final = Path("/")
_SECCOMP: Final = {"0": "off", "1": "strict", "2": "filter"}
_GUEST_DEVICES: Final = {"sev-guest": "SEV-SNP", "tdx_guest": "TDX"}
"""The kernel's own devices of a confidential guest, as they are named in sysfs."""

Value = str | int | bool | None
_MET: Final[Mapping[Demand, tuple[Posture, Callable[[Value], bool]]]] = {
    Demand.NO_SWAP: (Posture.SWAP, lambda value: value is False),
    Demand.NO_CORE_HANDLER: (Posture.CORE_PIPED, lambda value: value is False),
    Demand.PTRACE_RESTRICTED: (
        Posture.PTRACE_SCOPE,
        lambda value: isinstance(value, int) and value >= 1,
    ),
    Demand.SECCOMP: (Posture.SECCOMP, lambda value: value in ("strict", "filter")),
    Demand.NO_NEW_PRIVILEGES: (Posture.NO_NEW_PRIVILEGES, lambda value: value is True),
    Demand.READ_ONLY_ROOT: (Posture.READ_ONLY_ROOT, lambda value: value is True),
    Demand.USER_NAMESPACE: (Posture.USER_NAMESPACE, lambda value: value is True),
    Demand.NON_ROOT: (Posture.ROOT, lambda value: value is False),
    Demand.CONFIDENTIAL_MEMORY: (Posture.CONFIDENTIAL_MEMORY, bool),
}


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


def posture(root: Path = _ROOT) -> dict[Posture, Value]:
    """Measure what protects this process.

    `confidentialMemory` is what the guest's kernel says of its hardware; it is not attested, and a
    host that lies to the kernel lies here too.
    """
    status = dict(
        line.split(":\t", 1)
        for line in _text(root / "proc/self/status").splitlines()
        if ":\t" in line
    )
    memlock = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return {
        Posture.DUMPABLE: bool(ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)),
        Posture.SWAP: swap_active(root),
        Posture.CORE_LIMIT: resource.getrlimit(resource.RLIMIT_CORE)[0],
        Posture.CORE_PIPED: _core_piped(root),
        Posture.MEMORY_LOCK: None if memlock == resource.RLIM_INFINITY else memlock,
        Posture.PTRACE_SCOPE: _number(root / "proc/sys/kernel/yama/ptrace_scope"),
        Posture.SECCOMP: _SECCOMP.get(status.get("Seccomp", "").strip()),
        Posture.NO_NEW_PRIVILEGES: status.get("NoNewPrivs", "").strip() == "1",
        Posture.READ_ONLY_ROOT: bool(os.statvfs("/").f_flag & os.ST_RDONLY),
        Posture.USER_NAMESPACE: _in_user_namespace(root),
        Posture.ROOT: os.geteuid() == 0,
        Posture.CONFIDENTIAL_MEMORY: _confidential_guest(root),
    }


def require(demands: Iterable[Demand], measured: Mapping[Posture, Value]) -> None:
    """Refuse where something demanded is not so; what could not be measured is not so.

    Raises:
        PostureRefused: the message names every demand that is not met.

    """
    unmet = [demand for demand in demands if not _met(demand, measured)]
    if unmet:
        raise PostureRefused(
            f"failed to meet the demanded posture: {', '.join(unmet)}",
            hint="run the pod where it is so, or have the provider demand less",
        )


def _met(demand: Demand, measured: Mapping[Posture, Value]) -> bool:
    name, good = _MET[demand]
    return good(measured.get(name))


def _core_piped(root: Path) -> bool | None:
    pattern = _text(root / "proc/sys/kernel/core_pattern")
    return pattern.startswith("|") if pattern else None


def _in_user_namespace(root: Path) -> bool | None:
    mapped = _text(root / "proc/self/uid_map").split()[:2]
    return mapped != ["0", "0"] if mapped else None


def _confidential_guest(root: Path) -> str | None:
    found = (name for name in _GUEST_DEVICES if (root / "sys/class/misc" / name).exists())
    return next((_GUEST_DEVICES[name] for name in found), None)


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
