"""What the container may use: memory and processors, on cgroup version 1 and 2.

Limits of every level above count, so the smallest one is the answer. Standard library only.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_UNLIMITED: Final = 1 << 60
_ROOT: Final = Path("/")


def memory_limit(root: Path = _ROOT) -> int | None:
    """Return the smallest memory limit in bytes, or `None` where there is none."""
    names = ("memory.max", "memory.limit_in_bytes")
    limits = [_number(folder / name) for folder in _folders(root, "memory") for name in names]
    return min((each for each in limits if each is not None and each < _UNLIMITED), default=None)


def memory_available(root: Path = _ROOT) -> int:
    """Return the bytes that can be had now, within every limit and the machine."""
    rooms = [_machine_available(root)]
    for folder in _folders(root, "memory"):
        for limit_name, usage_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, usage = _number(folder / limit_name), _number(folder / usage_name)
            if limit is not None and usage is not None and limit < _UNLIMITED:
                rooms.append(limit - usage + _reclaimable(folder))
    return max(0, min(rooms))


def cpu_quota(root: Path = _ROOT) -> float | None:
    """Return the smallest quota in processors, such as 1.5, or `None` where there is none."""
    quotas = [_quota(folder) for folder in _folders(root, "cpu")]
    return min((each for each in quotas if each is not None), default=None)


def _quota(folder: Path) -> float | None:
    fields = _text(folder / "cpu.max").split()
    if len(fields) == 2 and fields[0].isdigit() and fields[1].isdigit():
        return int(fields[0]) / max(1, int(fields[1]))
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield this process's cgroup folders for a controller, innermost first."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / controllers if controllers else root / "sys/fs/cgroup"
        if controllers and not base.is_dir():
            base = root / "sys/fs/cgroup" / controller
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            yield base.joinpath(*parts[:depth])


def _reclaimable(folder: Path) -> int:
    """Page cache that the kernel would drop first; it counts as usage."""
    for line in _text(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


def _machine_available(root: Path) -> int:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
