"""Delivery as files: memory-backed or not at all, all or nothing, and wiped at both ends."""

import errno
import mmap
import os
import stat
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelseal import handover
from modelseal.contract import Delivery, Reason
from modelseal.errors import (
    DeliveryError,
    IndexInvalid,
    NotMemoryBacked,
    OutOfMemory,
    SettingsError,
)
from modelseal.memory import PAGE, PlaintextMemory
from modelseal_sidecar import tmpfs
from modelseal_sidecar.delivery import Parcel
from modelseal_sidecar.status import Board, Status
from modelseal_sidecar.tmpfs import CURRENT, TmpfsDelivery, require_memory_backed
from modelseal_sidecar.wake import Stopped, Wake

FILES = {"net.xml": b"<net/>" * 1000, "deep/er/weights.bin": bytes(range(256)) * 300, "none": b""}


@pytest.fixture
def volume() -> Iterator[Path]:
    """Return a fresh directory on the machine's memory-backed file system."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="modelseal-test-") as path:
        yield Path(path)


def board() -> Board:
    return Board(Status(delivery=Delivery.TMPFS, model="a/b", since=datetime.now(UTC)))


def parcel(files: dict[str, bytes]) -> Parcel:
    entries, offset = [], 0
    for path, content in files.items():
        entries.append(handover.File(path=path, role="other", offset=offset, length=len(content)))
        offset += -(-len(content) // PAGE) * PAGE
    memory = PlaintextMemory(offset, name=None)
    for entry in entries:
        memory.view[entry.offset : entry.offset + entry.length] = files[entry.path]
    model = handover.Model(
        model="a/b", version="1", digest="sha256:" + "0" * 64, size=offset, files=len(files)
    )
    return Parcel(memory=memory, model=model, files=tuple(entries))


def started(volume: Path, *, private: bool = True) -> TmpfsDelivery:
    made = TmpfsDelivery(volume, board(), Wake().check, private=private)
    made.start()
    return made


def test_a_directory_on_a_disk_is_refused() -> None:
    with pytest.raises(NotMemoryBacked):
        require_memory_backed(Path("/"))


def test_an_absent_directory_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsError, match="No such file"):
        require_memory_backed(Path("/nowhere"))


def test_the_server_finds_all_files(volume: Path) -> None:
    delivery = started(volume)
    assert not delivery._board.read().started
    delivery.deliver(parcel(FILES), 60.0)
    found = {
        str(path.relative_to(volume / CURRENT)): path.read_bytes()
        for path in (volume / CURRENT).rglob("*")
        if path.is_file()
    }
    assert found == FILES
    assert os.listdir(volume) == [CURRENT]
    assert delivery._board.read().started
    assert delivery._board.read().healthy


@pytest.mark.parametrize(
    ("private", "file", "folder"), [(True, 0o400, 0o700), (False, 0o444, 0o755)]
)
def test_modes_let_only_those_read_who_must(
    volume: Path, private: bool, file: int, folder: int
) -> None:
    mask = os.umask(0o077)
    try:
        started(volume, private=private).deliver(parcel(FILES), 60.0)
    finally:
        os.umask(mask)
    for path in (volume / CURRENT).rglob("*"):
        expected = folder if path.is_dir() else file
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_memory_is_given_back_when_delivered(volume: Path) -> None:
    given = parcel(FILES)
    started(volume).deliver(given, 60.0)
    with pytest.raises(DeliveryError, match="released"):
        _ = given.memory.view


def test_a_withdrawal_leaves_nothing_and_readers_lose_the_content(volume: Path) -> None:
    delivery = started(volume)
    delivery.deliver(parcel(FILES), 60.0)
    descriptor = os.open(volume / CURRENT / "net.xml", os.O_RDONLY)
    delivery.withdraw(Reason.KEY_REVOKED)
    assert os.fstat(descriptor).st_size == 0
    os.close(descriptor)
    assert os.listdir(volume) == []
    assert not delivery._board.read().healthy


def test_a_server_that_maps_a_file_sees_zeros_before_it_dies(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = started(volume)
    delivery.deliver(parcel(FILES), 60.0)
    seen = []
    with (volume / CURRENT / "net.xml").open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        truncate = os.ftruncate

        def look(descriptor: int, length: int) -> None:
            if os.fstat(descriptor).st_ino == os.fstat(file.fileno()).st_ino:
                seen.append(mapping[:16])
            truncate(descriptor, length)

        monkeypatch.setattr(os, "ftruncate", look)
        delivery.withdraw(Reason.KEY_REVOKED)
        mapping.close()
    assert seen == [bytes(16)]


def test_what_an_agent_before_left_is_wiped_at_the_start(volume: Path) -> None:
    started(volume).deliver(parcel(FILES), 60.0)
    left = volume / ".incoming"
    left.mkdir()
    (left / "half").write_bytes(b"plain")
    started(volume)
    assert os.listdir(volume) == []


def test_only_our_own_names_are_ever_removed(volume: Path) -> None:
    (volume / "precious").write_text("x")
    delivery = started(volume)
    delivery.deliver(parcel(FILES), 60.0)
    delivery.close()
    assert os.listdir(volume) == ["precious"]


def test_a_link_in_place_of_our_directory_is_not_followed(volume: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    (volume / CURRENT).symlink_to(tmp_path)
    started(volume)
    assert (tmp_path / "precious").read_text() == "x"


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, OutOfMemory), (errno.EIO, DeliveryError)]
)
def test_a_failed_write_leaves_nothing(
    volume: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[DeliveryError]
) -> None:
    delivery = started(volume)
    given = parcel(FILES)
    write = os.write

    def fail(descriptor: int, data: memoryview) -> int:
        if os.fstat(descriptor).st_size > 0:
            raise OSError(code, os.strerror(code))
        return write(descriptor, data[:100])

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(kind):
        delivery.deliver(given, 60.0)
    assert os.listdir(volume) == []
    with pytest.raises(DeliveryError, match="released"):
        _ = given.memory.view


def test_a_stop_amid_the_copy_leaves_nothing(volume: Path) -> None:
    wake = Wake()
    delivery = TmpfsDelivery(volume, board(), wake.check, private=True)
    delivery.start()
    wake.stop()
    with pytest.raises(Stopped):
        delivery.deliver(parcel(FILES), 60.0)
    assert os.listdir(volume) == []


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "a\0b"])
def test_a_path_that_leaves_the_directory_is_refused(volume: Path, path: str) -> None:
    with pytest.raises(IndexInvalid):
        started(volume).deliver(parcel({path: b"x"}), 60.0)
    assert os.listdir(volume) == []


def test_memory_is_freed_while_files_are_written(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tmpfs, "_CHUNK", PAGE)
    given = parcel({"big": b"\xab" * (8 * PAGE)})
    seen = []
    discard = given.memory.discard

    def watch(offset: int, length: int) -> None:
        discard(offset, length)
        seen.append(bytes(given.memory.view[offset : offset + length]).strip(b"\0"))

    monkeypatch.setattr(given.memory, "discard", watch)
    started(volume).deliver(given, 60.0)
    assert seen == [b""] * 8
