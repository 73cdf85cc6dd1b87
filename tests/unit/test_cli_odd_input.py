"""What a shell can hand over that nobody meant: a pipe, nothing, a closed or full output."""

import errno
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from modelseal import errors
from support.cli import environment, everything_below, program, run, spawn
from support.cli_models import MODEL, key_file, plain_ir, seal


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """Return a folder with a plain model and a key."""
    plain_ir(tmp_path)
    key_file(tmp_path)
    return tmp_path


class _Key:
    kind = "file"


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def _zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [os.mkfifo, _socket, _zeros])
@pytest.mark.parametrize("name", ["odd.xml", "odd.onnx", "odd.bin"])
def test_only_ordinary_files_are_sealed_and_nobody_waits_for_a_pipe(
    make: Callable[[Path], None], name: str, room: Path
) -> None:
    make(room / name)
    source = room / name
    if source.suffix == ".bin":
        source = Path(shutil.copy(room / "tiny.xml", room / "odd.xml"))
    done = spawn(
        *("seal", source, "-o", room / "out", "--model", MODEL, "--version", "1"),
        *("--key", f"file:{room}/my.key"),
        env=environment(room),
        timeout=30,
    )
    assert done.code == errors.InputUnreadable.exit_code, done.err
    assert f"{name}': it is not an ordinary file" in done.error
    assert done.hint
    assert not (room / "out").exists()


@pytest.mark.parametrize("name", ["tiny.xml", "."])
def test_what_may_not_be_read_is_unreadable_input_and_not_wrong_usage(
    name: str, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_words: object, **_more: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(room / name))

    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr("os.scandir", locked)
    monkeypatch.setattr("pathlib.Path.open", locked)
    monkeypatch.setattr("modelseal.cli.seal.open_key", lambda *_, **__: _Key())
    result = seal(room / name, room.parent / "out", key="file:any")
    assert result.code == errors.InputUnreadable.exit_code, result.err
    assert "Permission denied" in result.error


@pytest.mark.parametrize("verb", ["seal", "verify", "inspect", "serve", "rewrap", "reseal"])
def test_an_empty_path_is_not_taken_for_this_folder(verb: str, room: Path) -> None:
    more = {"seal": ("-o", room / "out", "--version", "1"), "reseal": ("-o", room / "out")}
    key = () if verb == "inspect" else ("--model", MODEL, "--key", f"file:{room}/my.key")
    result = run(verb, "", *more.get(verb, ()), *key)
    assert result.code == 2, result.err
    assert "it is empty" in result.error
    assert not (room / "out").exists()


def test_a_destination_inside_the_model_is_refused_or_the_next_seal_would_hold_it(
    room: Path,
) -> None:
    folder = room / "model"
    folder.mkdir()
    plain_ir(folder)
    before = everything_below(room)
    result = seal(folder, folder / "sealed", key=f"file:{room}/my.key")
    assert result.code == errors.OutputFailed.exit_code
    assert "it lies inside the model" in result.error
    assert everything_below(room) == before


def test_a_destination_without_a_parent_is_said_with_what_to_do(room: Path) -> None:
    result = seal(room / "tiny.xml", room / "no" / "where", key=f"file:{room}/my.key")
    assert result.code == errors.OutputFailed.exit_code
    assert "No such file" in result.error
    assert "folder" in result.hint


def test_a_sealed_model_that_is_missing_is_named(room: Path) -> None:
    result = run("inspect", room / "absent")
    assert result.code == errors.SourceNotFound.exit_code
    assert "absent'" in result.error


@pytest.mark.parametrize("name", ["seal.json", "p/1.floe"])
def test_a_pipe_in_a_sealed_model_is_said_to_be_one_and_not_a_matter_of_rights(
    name: str, room: Path
) -> None:
    assert seal(room / "tiny.xml", room / "sealed", key=f"file:{room}/my.key").code == 0
    (room / "sealed" / name).unlink()
    os.mkfifo(room / "sealed" / name)
    result = run("verify", room / "sealed", "--model", MODEL, "--key", f"file:{room}/my.key")
    assert result.code == errors.SourceDenied.exit_code
    assert "not a regular file" in result.error
    assert "ordinary file" in result.hint


def test_a_private_key_given_as_signer_is_named(room: Path) -> None:
    assert run("keygen", "-o", room / "release", "--type", "ed25519").code == 0
    assert seal(room / "tiny.xml", room / "sealed", key=f"file:{room}/my.key").code == 0
    result = run("verify", room / "sealed", "--signer", f"file:{room}/release")
    assert result.code == errors.SettingsError.exit_code
    assert "release'" in result.error


@pytest.mark.parametrize("kind", ["sealing", "ed25519"])
def test_a_key_for_which_the_disk_has_no_room_leaves_no_file(
    kind: str, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    before = everything_below(room)
    result = run("keygen", "-o", room / "new", "--type", kind)
    assert result.code == errors.OutputSpace.exit_code, result.err
    assert everything_below(room) == before


def _shell(room: Path, redirection: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *program(*words)],
        env=environment(room),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _sealing(room: Path) -> tuple[str | Path, ...]:
    return (
        *("seal", room / "tiny.xml", "-o", room / "out", "--model", MODEL, "--version", "1"),
        *("--key", f"file:{room}/my.key"),
    )


@pytest.mark.parametrize("json", [(), ("--json",)])
def test_a_full_output_is_said_and_is_no_fault_of_modelseal(
    json: tuple[str, ...], room: Path
) -> None:
    done = _shell(room, ">/dev/full", *_sealing(room), *json)
    assert done.returncode == errors.OutputSpace.exit_code, done.stderr
    assert "error: failed to write to stdout: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_refusal_keeps_its_code_where_its_json_finds_no_room(room: Path) -> None:
    done = _shell(room, ">/dev/full", "inspect", room / "absent", "--json")
    assert done.returncode == errors.SourceNotFound.exit_code, done.stderr


@pytest.mark.parametrize("redirection", [">&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_never_taken_for_the_files_of_a_seal(
    redirection: str, room: Path
) -> None:
    done = _shell(room, redirection, *_sealing(room))
    assert done.returncode == 0, done.stderr
    assert run("verify", room / "out", "--model", MODEL, "--key", f"file:{room}/my.key").code == 0


def test_a_refusal_keeps_its_code_where_nobody_can_read_it(room: Path) -> None:
    assert _shell(room, "2>&-", "inspect", room / "absent").returncode == (
        errors.SourceNotFound.exit_code
    )


def test_a_name_that_no_file_can_have_is_a_matter_of_the_source(room: Path) -> None:
    result = run("inspect", room / ("x" * 300))
    assert result.code == errors.SourceUnavailable.exit_code, result.err
    assert "File name too long" in result.error


def test_a_reader_that_left_hears_no_refusal_and_the_code_says_it(room: Path) -> None:
    done = _shell(room, "| true", "inspect", room / "absent", "--json")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("word", ["CPU.CACHE_DIR=/tmp", "NUM_STREAMS=2", "CPU.NUM_STREAMS=many"])
def test_a_property_that_no_device_may_have_is_named_before_anything_starts(word: str) -> None:
    done = run("serve", "sealed", "--model", MODEL, "--key", "file:my.key", "--property", word)
    assert done.code == errors.SettingsError.exit_code, done.err
    assert "failed to read the device properties" in done.error
    assert done.hint
