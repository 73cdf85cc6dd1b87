"""A node's file systems, seen from a pod that shares the node's process ids.

Standard library only: this runs on nodes. `/proc/1/root` leads to the node's own files, so that no
path of the node has to be mounted.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelseal.cli.leaks import places
from modelseal.cli.leaks.needles import Needle, found_in
from modelseal.cli.leaks.places import Search

IN_MEMORY: Final = "file systems in memory"
CORES: Final = "core files"
ELSEWHERE: Final = "other files on disks"
LAYERS: Final = "container images and layers"
FOLDERS: Final[Mapping[str, Sequence[str]]] = {
    "kubelet's files": ("/var/lib/kubelet",),
    LAYERS: ("/var/lib/containerd", "/var/lib/containers", "/var/lib/docker"),
    "logs on the node": ("/var/log",),
}
_MEMORY: Final = frozenset({"tmpfs", "ramfs", "hugetlbfs"})
_NO_FILES: Final = frozenset(
    (
        "autofs",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "devpts",
        "devtmpfs",
        "efivarfs",
        "fusectl",
        "mqueue",
        "nsfs",
        "proc",
        "pstore",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "squashfs",
        "sysfs",
        "tracefs",
    )
)
_ELSEWHERE: Final = ("nfs", "ceph", "cifs", "smb", "fuse", "9p", "lustre", "virtiofs", "glusterfs")
_CORE_HEAD: Final = 18
"""Bytes of an ELF file up to and with its type, which is 4 for a core."""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """One mounted file system."""

    point: str
    kind: str


def mounts(pid: int) -> list[Mount]:
    """Return what a process sees mounted."""
    found = []
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4].encode().decode("unicode_escape")
        found.append(Mount(point=point, kind=right.split()[0]))
    return found


def is_remote(kind: str) -> bool:
    """Say whether a file system lies on another machine, which is not walked through."""
    return kind.startswith(_ELSEWHERE) and kind not in _NO_FILES


def search_node(needles: Sequence[Needle], since: float) -> dict[str, Search]:
    """Search all that changed on the node's file systems, its disks and its memory; by place."""
    found = {name: Search() for name in (*FOLDERS, ELSEWHERE, CORES, IN_MEMORY)}
    seen: set[tuple[int, int]] = set()
    for mount in mounts(1):
        if mount.kind in _NO_FILES or is_remote(mount.kind):
            continue
        for path in _changed(Path(f"/proc/1/root{mount.point}"), since, seen):
            _search(found[_place(mount, path)], path, needles)
    return found


def search_memory_of(pid: int, needles: Sequence[Needle], since: float) -> Search:
    """Search the file systems in memory that only one process's container sees."""
    search = Search()
    seen: set[tuple[int, int]] = set()
    with contextlib.suppress(OSError):
        for mount in mounts(pid):
            if mount.kind in _MEMORY:
                for path in _changed(Path(f"/proc/{pid}/root{mount.point}"), since, seen):
                    _search(search, path, needles)
    return search


def _place(mount: Mount, path: Path) -> str:
    if mount.kind in _MEMORY:
        return IN_MEMORY
    if _is_core(path):
        return CORES
    if mount.kind == "overlay" and mount.point != "/":
        return LAYERS
    where = str(path).removeprefix("/proc/1/root")
    inside = (name for name, roots in FOLDERS.items() if where.startswith(tuple(roots)))
    return next(inside, ELSEWHERE)


def _search(search: Search, path: Path, needles: Sequence[Needle]) -> None:
    where = str(path).removeprefix("/proc/1/root")
    if names := found_in(os.fsencode(path.name), needles):
        search.note(names, where)
    places.search_file(search, path, needles, where=where)


def _changed(root: Path, since: float, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield the regular files of one file system whose content or name is new, each once."""
    with contextlib.suppress(OSError):
        device = root.stat().st_dev
        for folder, folders, names in os.walk(root):
            here = Path(folder)
            status = here.stat()
            if status.st_dev != device or (device, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((device, status.st_ino))
            yield from _new(here, names, since, seen)


def _new(
    here: Path, names: Sequence[str], since: float, seen: set[tuple[int, int]]
) -> Iterator[Path]:
    for name in names:
        with contextlib.suppress(OSError):
            status = (here / name).lstat()
            key = (status.st_dev, status.st_ino)
            new = max(status.st_mtime, status.st_ctime) >= since
            if new and stat.S_ISREG(status.st_mode) and key not in seen:
                seen.add(key)
                yield here / name


def _is_core(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
        head = file.read(_CORE_HEAD)
        return head.startswith(b"\x7fELF") and head[16:18] in (b"\4\0", b"\0\4")
    return False
