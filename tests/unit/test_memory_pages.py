"""How the model's memory is asked of the kernel."""

import errno
import os
from pathlib import Path

import pytest

from modelseal import memory as memory_module
from modelseal.errors import OutOfMemory
from modelseal.memory import PlaintextMemory

HUGE, NOT_DUMPED, NOT_FORKED = "hg", "dd", "dc"


def flags(memory: PlaintextMemory) -> set[str]:
    """Return the kernel's flags of the mapping that holds the model."""
    with memory.view[:1] as first:
        first[0] = 1
    smaps = Path("/proc/self/smaps").read_text()
    found = smaps.partition(f"\n{memory._address:x}-")[2]
    return set(found.partition("VmFlags:")[2].partition("\n")[0].split())


@pytest.mark.parametrize("name", ["model", None])
def test_the_models_memory_wants_huge_pages_and_is_neither_dumped_nor_forked(
    name: str | None,
) -> None:
    with PlaintextMemory(8 << 20, name=name) as memory:
        assert {HUGE, NOT_DUMPED, NOT_FORKED} <= flags(memory)


@pytest.mark.parametrize(
    ("chosen", "well"),
    [
        ("always within_size advise [never] deny force", True),
        ("always within_size advise never [deny] force", True),
        ("always within_size [advise] never deny force", False),
        ("[always] within_size advise never deny force", False),
        (None, True),
    ],
)
def test_a_memfd_is_written_where_the_kernel_gives_it_no_huge_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str | None, well: bool
) -> None:
    setting = tmp_path / "shmem_enabled"
    if chosen:
        setting.write_text(chosen)
    monkeypatch.setattr(memory_module, "_HUGE_MEMFDS", setting)
    with PlaintextMemory(8192) as memory, PlaintextMemory(8192, name=None) as anonymous:
        assert (memory.writes_well, anonymous.writes_well) == (well, False)


def test_what_is_written_is_what_the_mapping_shows_and_a_short_write_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content, real = bytes(range(256)) * 20, os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:1000], at))
    with PlaintextMemory(3 * 4096) as memory:
        memory.write(100, memoryview(content))
        with memory.view[:] as view:
            assert bytes(view) == bytes(100) + content + bytes(len(view) - 100 - len(content))


def test_a_memfd_that_gets_no_memory_is_said_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(os, "pwrite", full)
    with PlaintextMemory(4096) as memory, pytest.raises(OutOfMemory, match="memory"):
        memory.write(0, memoryview(b"x"))
