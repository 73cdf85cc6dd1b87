"""Where a needle could be: files, and everything that /proc shows of a process.

Each function returns what it found as `needle: where`. What may not be read is not searched, and
counted, so that a report can say so.
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from modelseal.cli.leaks.needles import Needle, found_in, found_in_stream

_UNSEARCHABLE: Final = ("[vvar]", "[vvar_vclock]", "[vsyscall]", "[vdso]")


@dataclass(kw_only=True)
class Search:
    """What one search saw: how many things it read, which it could not, and what it found."""

    read: int = 0
    unreadable: int = 0
    found: list[str] = field(default_factory=list)

    def note(self, names: Iterable[str], where: object) -> None:
        """Count one thing that was read, with what was in it."""
        self.read += 1
        self.found += [f"{name}: {where}" for name in sorted(names)]

    def add(self, other: "Search") -> None:
        """Take up what another search saw."""
        self.read += other.read
        self.unreadable += other.unreadable
        self.found += other.found


def search_files(
    roots: Sequence[Path], needles: Sequence[Needle], *, since: float, but: Sequence[Path] = ()
) -> Search:
    """Search names and contents of all files that changed since a time (seconds of the epoch).

    Args:
        roots: folders; links are not followed, and other file systems are entered.
        needles: what to look for.
        since: older files are left alone.
        but: folders that are left alone.

    """
    search = Search()
    for path in _changed(roots, since, {each.resolve() for each in but}):
        names = found_in(os.fsencode(path.name), needles)
        try:
            with path.open("rb", buffering=0) as file:
                names |= found_in_stream(file, needles)
        except OSError:
            search.unreadable += 1
        search.note(names, path)
    return search


def search_surroundings(pid: int, needles: Sequence[Needle]) -> Search:
    """Search a process's environment and command line."""
    search = Search()
    for name in ("environ", "cmdline"):
        search_file(search, Path(f"/proc/{pid}/{name}"), needles)
    return search


def search_open_files(pid: int, needles: Sequence[Needle], *, named: bool = True) -> Search:
    """Search what a process holds open on file systems, names that were removed included.

    A memfd is memory, and is searched as such. Without `named`, only files that have lost their
    name are searched, which nothing else would find.
    """
    search = Search()
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = os.readlink(link)
                if _is_file(link, target) and (named or target.endswith(" (deleted)")):
                    search_file(search, link, needles, where=target)
    return search


def search_memory(pid: int, needles: Sequence[Needle]) -> Search:
    """Search a process's own memory, but for memfds; needs the right to trace it."""
    search = Search()
    try:
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            for start, end, name in _regions(pid):
                try:
                    memory.seek(start)
                    names = found_in_stream(memory, needles, length=end - start)
                except OSError:
                    search.unreadable += 1
                else:
                    search.note(names, f"memory of {pid}, {name or 'anonymous'}")
    except (OSError, ValueError):
        search.unreadable += 1
    return search


def search_texts(texts: Iterable[tuple[str, bytes]], needles: Sequence[Needle]) -> Search:
    """Search texts that were collected: logs, answers, messages."""
    search = Search()
    for where, text in texts:
        search.note(found_in(text, needles), where)
    return search


def swapped(pid: int) -> int:
    """Return how many KiB of a process are swapped out."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmSwap:"):
                return int(line.split()[1])
    return 0


def _is_file(link: Path, target: str) -> bool:
    """Say whether a descriptor is of a file: opening a pipe by its name could wait for ever."""
    elsewhere = ("/memfd:", "/dev/", "/proc/")
    return (
        target.startswith("/")
        and not target.startswith(elsewhere)
        and stat.S_ISREG(link.stat().st_mode)
    )


def search_file(
    search: Search, path: Path, needles: Sequence[Needle], where: object = None
) -> None:
    """Search one file's content, and count it."""
    try:
        with path.open("rb", buffering=0) as file:
            search.note(found_in_stream(file, needles), where or path)
    except OSError:
        search.unreadable += 1


def _changed(roots: Sequence[Path], since: float, but: set[Path]) -> Iterator[Path]:
    """Yield each regular file below the roots once, where its content or its name is new."""
    seen: set[tuple[int, int]] = set()
    for root in roots:
        for folder, folders, names in os.walk(root):
            here = Path(folder)
            folders[:] = [each for each in folders if (here / each).resolve() not in but]
            for name in names:
                with contextlib.suppress(OSError):
                    status = (here / name).lstat()
                    key = (status.st_dev, status.st_ino)
                    new = max(status.st_mtime, status.st_ctime) >= since
                    if new and stat.S_ISREG(status.st_mode) and key not in seen:
                        seen.add(key)
                        yield here / name


def _regions(pid: int) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and name of readable memory that is not a memfd's."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, rights, *rest = line.split(maxsplit=5)
        name = rest[3] if len(rest) > 3 else ""
        if rights.startswith("r") and name not in _UNSEARCHABLE and "/memfd:" not in name:
            start, _, end = span.partition("-")
            yield int(start, 16), int(end, 16), name
