"""Proof that each search of a node can find: something is planted in each place, and sought.

Standard library only: this runs on nodes.
"""

import contextlib
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from modelseal.cli.leaks import etcd, filesystems, plants, processes, swap
from modelseal.cli.leaks.needles import Needle

_NODE: Final = Path("/proc/1/root")
_NAME: Final = "modelseal-leakcheck-planted"
_ON_DISK: Final = _NODE / "var/tmp" / _NAME
_IN_MEMORY: Final = (_NODE / "run" / _NAME, _NODE / "dev/shm" / _NAME)
_ROLES: Final = (processes.AGENT, processes.RUNTIME, processes.KEY_SERVICE, processes.OTHER)
_DUMPED: Final = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
word = sys.stdin.buffer.readline()
os.abort()
"""


def prove(
    word: bytes, stored: Sequence[Needle], since: float, tell: Callable[[], object]
) -> dict[str, bool]:
    """Say of each place whether what was planted there is found.

    Args:
        word: what is planted.
        stored: what the cluster's database was made to hold.
        since: see `filesystems.search_node`.
        tell: called now and then.

    """
    needles = (Needle.of("planted", word),)
    with _planted(word) as expected, plants.holder(_ON_DISK, word) as pid:
        files = filesystems.search_node(needles, since)
        held = processes.search_processes(needles, dict.fromkeys(_ROLES, needles), (), since, tell)
    found = {place: bool(search.found) for place, search in files.items() if place in expected}
    found |= {
        place: any(str(pid) in each or "(deleted)" in each for each in search.found)
        for place, search in held.items()
        if place != filesystems.IN_MEMORY and search.found
    }
    found["swap"] = not swap.devices() or swap.is_searchable(word)
    found["etcd's files"] = bool(etcd.search_etcd(stored).found)
    return found


@contextlib.contextmanager
def _planted(word: bytes) -> Iterator[list[str]]:
    """Write the word into every folder that is searched; yields the places where one was."""
    files = {name: _first(roots) / _NAME for name, roots in filesystems.FOLDERS.items()}
    files = {name: path for name, path in files.items() if path.parent.is_dir()}
    every = [*files.values(), *_IN_MEMORY]
    _ON_DISK.mkdir(parents=True)
    try:
        for path in (*every, _ON_DISK / "file"):
            path.write_bytes(bytes(5_000_000) + word)
        _dump(word)
        yield [*files, filesystems.ELSEWHERE, filesystems.IN_MEMORY, filesystems.CORES]
    finally:
        for path in every:
            path.unlink(missing_ok=True)
        shutil.rmtree(_ON_DISK)


def _first(roots: Sequence[str]) -> Path:
    paths = [_NODE / root.removeprefix("/") for root in roots]
    return next((path for path in paths if path.is_dir()), paths[0])


def _dump(word: bytes) -> None:
    """Let a process that holds the word crash with a core file in the folder on disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    subprocess.run(  # noqa: S603 - our own Python
        [sys.executable, "-c", _DUMPED], input=word + b"\n", cwd=_ON_DISK, check=False
    )
