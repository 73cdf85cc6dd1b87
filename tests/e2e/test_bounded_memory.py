"""A model far larger than the memory beside it is sealed and opened."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.cli import environment, program, run

pytestmark = pytest.mark.e2e
LENGTH = 1 << 30
BESIDE = 640 << 20
"""Address space for Python, its libraries, threads' stacks and buffers; resident is far less."""
OPEN = """
import modelseal, sys
folder, key, length = sys.argv[1:]
with modelseal.open(folder, key=key, model="team/large", allow_unsigned=True, threads=2) as sealed:
    assert len(sealed.read("large.bin")) == int(length)
"""


def limited(command: list[str], folder: Path, space: int) -> "subprocess.CompletedProcess[str]":
    """Run a command in a limited address space."""
    return subprocess.run(
        ["prlimit", f"--as={space}", *command],
        env=environment(folder, MALLOC_ARENA_MAX="2", OPENBLAS_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """Return a folder with a key and a model that is larger than the memory beside it."""
    assert run("keygen", "-o", tmp_path / "my.key").code == 0
    (tmp_path / "large.xml").write_text('<?xml version="1.0"?><net name="large"/>')
    with (tmp_path / "large.bin").open("wb") as file:
        os.truncate(file.fileno(), LENGTH)
    return tmp_path


def test_sealing_and_opening_need_little_memory_beyond_the_model(room: Path) -> None:
    key = f"file:{room / 'my.key'}"
    words = ("--model", "team/large", "--version", "1", "--key", key)
    made = limited(program("seal", room / "large.xml", "-o", room / "sealed", *words), room, BESIDE)
    assert made.returncode == 0, made.stderr
    command = [sys.executable, "-P", "-c", OPEN, str(room / "sealed"), key, str(LENGTH)]
    opened = limited(command, room, LENGTH + BESIDE)
    assert opened.returncode == 0, opened.stderr
    refused = limited(command, room, LENGTH)
    assert "OutOfMemory: failed to allocate" in refused.stderr
    for space in (LENGTH + (40 << 20), LENGTH + (50 << 20), LENGTH + (60 << 20)):
        scarce = limited(command, room, space)
        assert scarce.returncode == 0 or "OutOfMemory: " in scarce.stderr, scarce.stderr
