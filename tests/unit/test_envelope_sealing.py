"""Sealing makes a whole folder or nothing, whatever goes wrong and whenever."""

import errno
import io
import os
import stat
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from modelseal.envelope import (
    DataKeys,
    LocalSigner,
    PlainFile,
    Recipient,
    decrypt_payload,
    parse_index,
    parse_seal,
    seal_files,
)
from modelseal.errors import (
    InputUnreadable,
    KeyServiceUnavailable,
    LimitExceeded,
    ModelsealError,
    NotAModel,
    OutputFailed,
    OutputSpace,
    SettingsError,
    SignatureInvalid,
)
from modelseal.secret import Secret
from modelseal.sources.folder import FolderSource
from support.seals import MODEL, RECIPIENT, plain_files, seal_folder

FILES = {"model.xml": b"<net/>", "model.bin": bytes(3_000_000)}


def wrap(_: Secret, __: bytes) -> Sequence[Recipient]:
    return [RECIPIENT]


def seal(output: Path, **changes: Any) -> None:
    """Seal `FILES` with one argument or another changed."""
    arguments: dict[str, Any] = {
        "files": plain_files(FILES),
        "output": output,
        "model": MODEL,
        "version": "1",
        "recipients_for": wrap,
        "threads": 2,
    }
    seal_files(**(arguments | changes))


def refused(tmp_path: Path, kind: type[BaseException], **changes: Any) -> BaseException:
    """Return how sealing failed, after seeing that it left nothing anywhere."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(kind) as caught:
        seal(**({"output": tmp_path / "out"} | changes))
    assert sorted(tmp_path.rglob("*")) == before
    return caught.value


def test_a_sealed_folder_holds_seal_and_payloads_and_is_world_readable(tmp_path: Path) -> None:
    seal(tmp_path / "out")
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    objects = ["out/p/0.floe", "out/p/1.floe", "out/p/2.floe"]
    assert names == ["out", "out/p", *objects, "out/seal.json"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o777 & ~mask
    assert stat.S_IMODE((tmp_path / "out/seal.json").stat().st_mode) == 0o666 & ~mask


def test_the_index_says_path_role_order_and_hash(tmp_path: Path) -> None:
    made = seal_folder(tmp_path / "out", {"z.txt": b"later", "a/b.txt": b"sooner"})
    entries = parse_index(made.open(0), made.seal).entries
    assert [(one.number, one.path, one.role) for one in entries] == [
        (1, "z.txt", "other"),
        (2, "a/b.txt", "other"),
    ]
    assert entries[0].sha256.hex().startswith("1d9283d848ea")


def test_no_name_and_no_content_is_in_the_sealed_folder(tmp_path: Path) -> None:
    canary = b"canary-topology-and-weights"
    seal_folder(tmp_path / "out", {"canary-name.xml": canary * 100})
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert b"canary" not in path.read_bytes()


def test_progress_counts_the_files_bytes_once(tmp_path: Path) -> None:
    counts: list[int] = []
    seal(tmp_path / "out", progress=counts.append)
    assert sum(counts) == sum(len(content) for content in FILES.values())


def test_the_data_key_is_fresh_and_wiped_and_bound_to_name_and_seal(tmp_path: Path) -> None:
    seen: list[tuple[Secret, bytes, bytes]] = []

    def keep(dek: Secret, context: bytes) -> Sequence[Recipient]:
        seen.append((dek, bytes(dek.buffer), context))
        return [RECIPIENT]

    for name in ("one", "two"):
        seal(tmp_path / name, recipients_for=keep)
    (first, key, context), (_, other, _) = seen
    assert len(key) == 32
    assert key != other
    with pytest.raises(ValueError, match="wiped"):
        assert first.buffer
    seal_id = parse_seal((tmp_path / "one/seal.json").read_bytes()).manifest.seal_id
    assert context.startswith(b"modelseal/1\x00vision/filetype\x00")
    assert context.endswith(seal_id)


def test_identity_and_expiry_are_what_was_asked_for(tmp_path: Path) -> None:
    until = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    seal(tmp_path / "out", version="2.0+b", sequence=9, not_after=until)
    manifest = parse_seal((tmp_path / "out/seal.json").read_bytes()).manifest
    assert (manifest.model, manifest.version) == (MODEL, "2.0+b")
    assert (manifest.sequence, manifest.not_after) == (9, until)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"model": "vision"}, SettingsError),
        ({"model": "Vision/x"}, SettingsError),
        ({"version": ""}, SettingsError),
        ({"version": "a b"}, SettingsError),
        ({"sequence": -1}, SettingsError),
        ({"sequence": 1 << 53}, SettingsError),
        ({"not_after": datetime(2030, 1, 1)}, SettingsError),
        ({"not_after": datetime(2030, 1, 1, microsecond=1, tzinfo=UTC)}, SettingsError),
        ({"files": []}, NotAModel),
        ({"files": plain_files({"../x": b""})}, NotAModel),
        ({"files": plain_files({"/x": b""})}, NotAModel),
        ({"files": [*plain_files({"x": b""}), *plain_files({"x": b""})]}, NotAModel),
        ({"files": plain_files({"x": b""}) * 4096}, LimitExceeded),
        (
            {"files": [PlainFile(path="x", role="spy", length=0, open=io.BytesIO)]},
            SettingsError,
        ),
        (
            {"files": [PlainFile(path="x", role="other", length=1 << 41, open=io.BytesIO)]},
            LimitExceeded,
        ),
        ({"recipients_for": lambda *_: []}, ModelsealError),
        ({"recipients_for": lambda *_: [RECIPIENT] * 2}, ModelsealError),
    ],
)
def test_what_could_not_be_read_back_is_not_sealed(
    changes: dict[str, Any], kind: type[ModelsealError], tmp_path: Path
) -> None:
    assert type(refused(tmp_path, kind, **changes)) is not ModelsealError


def stream(content: bytes) -> Callable[[], BinaryIO]:
    return lambda: io.BytesIO(content)


@pytest.mark.parametrize(
    ("length", "content", "message"),
    [
        (10, b"123456789", "became shorter"),
        (10, b"", "became shorter"),
        (10, b"12345678901", "became longer"),
        (0, b"1", "became longer"),
        (5 << 20, bytes(4 << 20), "became shorter"),
    ],
)
def test_a_file_that_changes_its_length_is_noticed(
    length: int, content: bytes, message: str, tmp_path: Path
) -> None:
    file = PlainFile(path="grows", role="other", length=length, open=stream(content))
    error = refused(tmp_path, InputUnreadable, files=[file])
    assert f"'grows': it {message}" in str(error)


class FailingDisk(io.RawIOBase):
    """Gives some bytes, then an error of the disk."""

    def __init__(self) -> None:
        self.left = 5 << 20

    def readinto(self, buffer: Any) -> int:
        if self.left <= 0:
            raise OSError(errno.EIO, "Input/output error")
        self.left -= len(buffer)
        return len(buffer)


def test_a_file_that_cannot_be_read_leaves_nothing(tmp_path: Path) -> None:
    file = PlainFile(
        path="bad", role="other", length=9 << 20, open=lambda: cast("BinaryIO", FailingDisk())
    )
    assert "'bad': Input/output error" in str(refused(tmp_path, InputUnreadable, files=[file]))
    absent = PlainFile(
        path="gone", role="other", length=1, open=lambda: (tmp_path / "no").open("rb")
    )
    assert "No such file" in str(refused(tmp_path, InputUnreadable, files=[absent]))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, OutputSpace),
        (errno.EDQUOT, OutputSpace),
        (errno.EFBIG, OutputSpace),
        (errno.EIO, OutputFailed),
    ],
)
@pytest.mark.parametrize("call", ["pwrite", "fsync", "rename"])
def test_a_disk_that_fails_or_is_full_leaves_nothing(
    call: str, code: int, kind: type[OutputFailed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    assert type(refused(tmp_path, kind)) is kind


def test_a_disk_that_fails_after_the_rename_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.fsync

    def fail_on_parent(descriptor: int) -> None:
        if (tmp_path / "out").exists():
            raise OSError(errno.EIO, "Input/output error")
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fail_on_parent)
    refused(tmp_path, OutputFailed)


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: original(fd, data[:70_001], at))
    made = seal_folder(tmp_path / "out", FILES)
    assert made.open(2) == FILES["model.bin"]


@pytest.mark.parametrize("kind", ["file", "folder", "empty folder", "dangling link"])
def test_an_existing_destination_is_never_touched(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "dangling link":
        out.symlink_to(tmp_path / "absent")
    else:
        out.mkdir()
        if kind == "folder":
            (out / "mine").write_text("mine")
    assert "exists already" in str(refused(tmp_path, OutputFailed))


def test_a_destination_that_appears_meanwhile_is_never_touched(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def appear(_: Secret, __: bytes) -> Sequence[Recipient]:
        out.mkdir()
        return [RECIPIENT]

    with pytest.raises(OutputFailed, match="exists already"):
        seal(out, recipients_for=appear)
    assert list(tmp_path.iterdir()) == [out]
    assert list(out.iterdir()) == []


def test_a_destination_without_a_parent_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, OutputFailed, output=tmp_path / "no" / "out")
    assert "No such file" in str(error)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_interruption_leaves_nothing(kind: type[BaseException], tmp_path: Path) -> None:
    def interrupt(_: int) -> None:
        raise kind

    refused(tmp_path, kind, progress=interrupt)


def test_a_key_service_that_fails_leaves_nothing_and_costs_no_encryption(tmp_path: Path) -> None:
    def unavailable(_: Secret, __: bytes) -> Sequence[Recipient]:
        assert list(tmp_path.rglob("*.floe")) == []
        raise KeyServiceUnavailable("failed to wrap: down")

    refused(tmp_path, KeyServiceUnavailable, recipients_for=unavailable)


class LyingSigner:
    """Says that it is one key, and signs as nobody."""

    def __init__(self, signer: LocalSigner) -> None:
        self.public = signer.public

    def sign(self, message: bytes) -> bytes:
        return bytes(64)


def test_a_signature_that_does_not_verify_is_not_published(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    signer = LyingSigner(LocalSigner.generate(keys / "key"))
    refused(tmp_path, SignatureInvalid, signer=signer)


class Zeros(io.RawIOBase):
    """A long file that is never in memory."""

    def __init__(self, length: int) -> None:
        self.left = length

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self.left)
        self.left -= count
        return count


def test_a_long_file_is_sealed_and_opened_in_bounded_memory(tmp_path: Path) -> None:
    length = 96 << 20
    kept = bytearray()

    def keep(dek: Secret, _: bytes) -> Sequence[Recipient]:
        kept[:] = dek.buffer
        return [RECIPIENT]

    file = PlainFile(
        path="long", role="other", length=length, open=lambda: cast("BinaryIO", Zeros(length))
    )
    tracemalloc.start()
    try:
        seal(tmp_path / "out", files=[file], recipients_for=keep)
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
        out = bytearray(b"\xff") * length
        tracemalloc.reset_peak()
        found = parse_seal((tmp_path / "out/seal.json").read_bytes())
        entry = found.manifest.files[1]
        payload = FolderSource(tmp_path / "out").open_payload(entry.name, entry.ciphertext_length)
        decrypt_payload(
            seal=found,
            entry=entry,
            payload=payload,
            keys=lambda: DataKeys.from_dek(Secret(kept), found.manifest.seal_id),
            out=memoryview(out),
            threads=2,
        )
        payload.close()
        assert tracemalloc.get_traced_memory()[1] < length + (12 << 20)
    finally:
        tracemalloc.stop()
    assert out.count(0) == length
