"""Opening where there is hardly any memory beside the model."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelseal import opening
from modelseal.envelope import Policy
from modelseal.envelope.payload import _Job
from modelseal.errors import OutOfMemory
from modelseal.memory import PlaintextMemory
from modelseal.sources import open_source
from support.seals import MODEL, FolderSeal, seal_folder

CONTENT = {"model.bin": bytes(range(256)) * 50_000}


@pytest.fixture
def made(tmp_path: Path) -> FolderSeal:
    return seal_folder(tmp_path / "sealed", CONTENT)


def opened(made: FolderSeal, memory: PlaintextMemory) -> bytes:
    trust = opening.Trust(signers=(), allow_unsigned=True, policy=Policy(model=MODEL))
    source = open_source(str(made.folder))
    seal = opening.read_manifest(source, trust, datetime.now(UTC))
    placement = opening.decrypt_all(seal, source, made.keys, memory, threads=4)
    (file,) = placement.entries
    return bytes(memory.view[file.offset : file.offset + file.length])


@pytest.mark.parametrize("room", [0, 1, 3])
def test_where_no_thread_can_be_started_fewer_do_the_work(
    made: FolderSeal, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    start, left = threading.Thread.start, iter(range(room))

    def scarce(thread: threading.Thread) -> None:
        if next(left, None) is None:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    with PlaintextMemory(len(CONTENT["model.bin"])) as memory:
        assert opened(made, memory) == CONTENT["model.bin"]


def test_no_memory_for_the_buffers_is_said_by_name_and_nothing_stays(
    made: FolderSeal, monkeypatch: pytest.MonkeyPatch
) -> None:
    hash_segment, left = _Job.hash_segment, iter(range(6))

    def scarce(job: _Job, position: int, segment: memoryview) -> None:
        if next(left, None) is None:
            raise MemoryError
        hash_segment(job, position, segment)

    monkeypatch.setattr(_Job, "hash_segment", scarce)
    with PlaintextMemory(len(CONTENT["model.bin"])) as memory:
        with pytest.raises(OutOfMemory):
            opened(made, memory)
        assert not any(memory.view)
