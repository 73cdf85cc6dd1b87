"""How the model's memory is asked of the kernel."""

from pathlib import Path

import pytest

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
