"""Swap: what lies there is searched for on its devices. Standard library only."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from modelseal.cli.leaks import places
from modelseal.cli.leaks.needles import Needle
from modelseal.cli.leaks.places import Search

NONE: Final = "no swap is active"
_PAGED_OUT: Final = """
import mmap, sys
word = sys.stdin.buffer.readline().strip()
page = mmap.mmap(-1, 64 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for number in range(64): page[number * mmap.PAGESIZE : number * mmap.PAGESIZE + len(word)] = word
page.madvise(21)  # MADV_PAGEOUT
print(flush=True)
sys.stdin.read()
"""


def devices() -> list[Path]:
    """Return where the node swaps to; a file is seen through the node's own root."""
    found = []
    for line in Path("/proc/swaps").read_text().splitlines()[1:]:
        name, kind = line.split()[:2]
        found.append(Path(f"/proc/1/root{name}" if kind == "file" else name))
    return found


def search_swap(needles: Sequence[Needle]) -> Search:
    """Search every swap device; where there is none, that is what was read."""
    search = Search(read=1)
    for device in devices():
        places.search_file(search, device, needles)
    return search


def is_noticed(word: bytes) -> bool:
    """Let a page be swapped out, and say whether its process is seen to have one."""
    with _paged_out(word) as pid:
        return places.swapped(pid) > 0


def is_searchable(word: bytes) -> bool:
    """Let a page that holds a word be swapped out, and say whether the search finds it."""
    with _paged_out(word) as pid:
        if not places.swapped(pid):
            return False
        return bool(search_swap([Needle.of("planted", word)]).found)


@contextlib.contextmanager
def _paged_out(word: bytes) -> Iterator[int]:
    with subprocess.Popen(  # noqa: S603 - our own Python
        [sys.executable, "-c", _PAGED_OUT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None  # noqa: S101 - made with pipes above
        assert process.stdout is not None  # noqa: S101
        process.stdin.write(word + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        yield process.pid
