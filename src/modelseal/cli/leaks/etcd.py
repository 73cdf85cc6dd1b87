"""The cluster's database as it lies on a node's disk, where it does. Standard library only."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from modelseal.cli.leaks import places, processes
from modelseal.cli.leaks.needles import Needle
from modelseal.cli.leaks.places import Search

_OPTION: Final = b"--data-dir"


def search_etcd(needles: Sequence[Needle]) -> Search:
    """Search all files of the etcd servers that run on this node: snapshots and log, whole."""
    search = Search()
    for folder in _folders():
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                where = str(path).removeprefix("/proc/")
                places.search_file(search, path, needles, where=where)
    return search


def _folders() -> Iterator[Path]:
    for pid in processes.running():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if Path(f"/proc/{pid}/comm").read_text().strip() == "etcd":
                given = _value(words)
                if given.startswith("/"):
                    yield Path(f"/proc/{pid}/root{given}")


def _value(words: Sequence[bytes]) -> str:
    """Return the value of `--data-dir VALUE` or `--data-dir=VALUE`."""
    for number, word in enumerate(words[:-1]):
        if word == _OPTION:
            return words[number + 1].decode()
        if word.startswith(_OPTION + b"="):
            return word.partition(b"=")[2].decode()
    return ""
