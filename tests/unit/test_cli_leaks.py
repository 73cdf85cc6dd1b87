"""The searches of `modelseal leakcheck` find what they are shown, and only that."""

import base64
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelseal.cli.leaks import needles, places, plants
from modelseal.cli.leaks.needles import Needle
from modelseal.cli.leaks.report import Place

WORD = b"a canary of some length"
NEEDLES = (Needle.of("canary", WORD),)


def test_every_search_finds_what_was_planted_for_it(tmp_path: Path) -> None:
    found = plants.searches_that_find(tmp_path / "planted")
    names = ("files", "open files", "surroundings", "texts", "swap", "memory")
    assert found == dict.fromkeys(names, True)


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize(
    "encode", [bytes, base64.b64encode, lambda data: data.hex().encode(), bytes.hex]
)
def test_a_word_is_found_in_every_form_at_every_offset(before: int, encode: object) -> None:
    assert callable(encode)
    data = encode(os.urandom(before) + WORD + os.urandom(5))
    data = data.upper().encode() if isinstance(data, str) else data
    assert needles.found_in(data, NEEDLES) == {"canary"}


def test_a_word_that_lies_across_two_pieces_of_a_stream_is_found() -> None:
    for start in range((4 << 20) - len(WORD) - 1, (4 << 20) + 2):
        stream = io.BytesIO(bytes(start) + WORD + bytes(9))
        assert needles.found_in_stream(stream, NEEDLES) == {"canary"}


def test_other_words_are_not_found() -> None:
    assert needles.found_in(WORD[:-1] + b"?" + WORD[1:], NEEDLES) == set()


def test_a_files_name_counts_and_old_files_and_left_out_folders_do_not(tmp_path: Path) -> None:
    for folder in ("left out", "kept"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_bytes(WORD)
    (tmp_path / WORD.decode()).touch()
    search = places.search_files([tmp_path], NEEDLES, since=0, but=[tmp_path / "left out"])
    assert sorted(search.found) == [
        f"canary: {tmp_path / WORD.decode()}",
        f"canary: {tmp_path / 'kept/file'}",
    ]
    later = time.time() + 60
    assert places.search_files([tmp_path], NEEDLES, since=later).read == 0


@pytest.mark.parametrize(("name", "found"), [("model", False), (None, True)])
def test_the_delivered_memory_is_not_taken_for_a_leak_and_other_memory_is(
    name: str | None, found: bool
) -> None:
    """The word is put together by the child, so that it lies nowhere else in its memory."""
    script = (
        "import mmap, os, sys\n"
        f"descriptor = os.memfd_create('model') if {name!r} else -1\n"
        "if descriptor >= 0: os.ftruncate(descriptor, 4096)\n"
        "memory = mmap.mmap(descriptor, 4096)\n"
        f"for index, byte in enumerate({[byte ^ 1 for byte in WORD]}):\n"
        "    memory[index] = byte ^ 1\n"
        "print(flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-P", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        search = places.search_memory(child.pid, NEEDLES)
    assert search.read > 10
    assert bool(search.found) is found


def test_a_leak_a_blind_search_and_a_place_that_was_not_read_are_three_things() -> None:
    def place(**changes: object) -> Place:
        values = {"place": "p", "sought": "all", "promised": True, "search": "files", **changes}
        return Place(**values)  # type: ignore[arg-type]

    assert place(read=1, proven=True).verdict == "clean"
    assert place(read=1, proven=True, found=["x"]).verdict == "LEAK"
    assert place(read=1, proven=True, found=["x"], promised=False).verdict == "found"
    assert place(read=1).verdict == "search failed"
    assert place(proven=True).verdict == "not looked at"
    assert place(note="no such folder").verdict == "not looked at"
