"""A cgroup of the tests' own, where the machine lets us have one."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from support.requirements import unavailable

ROOT = Path("/sys/fs/cgroup")


@contextmanager
def inside(controller: str, first: Mapping[str, str], second: Mapping[str, str]) -> Iterator[None]:
    """Start children in a group with limits: files of version 1, or of version 2."""
    old = ROOT / controller
    parent, limits = (old, first) if old.is_dir() else (ROOT, second)
    group = parent / f"modelseal-test-{os.getpid()}"
    try:
        group.mkdir()
        for name, value in limits.items():
            (group / name).write_text(value)
        before = _own(controller)
    except OSError as error:
        group.rmdir() if group.is_dir() else None
        unavailable(f"no cgroup can be made here ({error.strerror})")
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (before / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


def _own(controller: str) -> Path:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(",") or not controllers:
            base = ROOT / controller if controllers else ROOT
            return base / path.lstrip("/")
    raise OSError(0, "this process is in none")
