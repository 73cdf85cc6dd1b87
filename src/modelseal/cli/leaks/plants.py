"""Proof that each search can find: a process and files into which a needle was planted."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from modelseal.cli.leaks import places, swap
from modelseal.cli.leaks.needles import Needle

_HOLDER: Final = """
import os, sys, tempfile
kept = sys.stdin.buffer.readline().strip()
file = tempfile.TemporaryFile(dir=sys.argv[1])
file.write(kept); file.flush()
print(flush=True)
sys.stdin.read()
"""
"""Holds a word in its memory and in a file without a name."""


def searches_that_find(folder: Path) -> Mapping[str, bool]:
    """Plant a word in every place, and say of each search whether it finds it there."""
    word = b"planted-0c57d1e2a94b"
    needles = (Needle.of("planted", word),)
    since = time.time() - 1
    folder.mkdir()
    (folder / "raw").write_bytes(b"\0" * 5_000_000 + word)
    (folder / "text").write_text(f"a log of {word.hex()}\n")
    with holder(folder, word) as pid:
        return {
            "files": len(places.search_files([folder], needles, since=since).found) == 2,
            "open files": bool(places.search_open_files(pid, needles).found),
            "surroundings": len(places.search_surroundings(pid, needles).found) == 2,
            "texts": bool(places.search_texts([("a text", b"..." + word)], needles).found),
            "swap": not swap.devices() or swap.is_noticed(word),
            "memory": bool(places.search_memory(pid, needles).found),
        }


@contextlib.contextmanager
def holder(folder: Path, word: bytes) -> Iterator[int]:
    """Run a process that shows the word wherever one could."""
    command = [sys.executable, "-P", "-c", _HOLDER, str(folder), word.decode()]
    with subprocess.Popen(  # noqa: S603 - our own Python
        command,
        env={"PLANTED": word.decode()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None  # noqa: S101 - made with pipes above
        assert process.stdout is not None  # noqa: S101
        process.stdin.write(word + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        yield process.pid
