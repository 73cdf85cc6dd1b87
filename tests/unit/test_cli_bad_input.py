"""Bad input has its own message and exit code each, and leaves nothing behind."""

import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelseal import errors
from modelseal.errors import ModelsealError
from support.cli import Result, everything_below, run
from support.cli_models import MODEL, key_file, plain_ir, seal, small_onnx


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """Return a folder with a plain model, a key, and the model sealed and signed with it."""
    plain_ir(tmp_path)
    key_file(tmp_path)
    assert run("keygen", "-o", tmp_path / "release", "--type", "ed25519").code == 0
    made = seal(
        *(tmp_path / "tiny.xml", tmp_path / "sealed", "--sign", tmp_path / "release"),
        key=f"file:{tmp_path / 'my.key'}",
    )
    assert made.code == 0, made.err
    return tmp_path


def refused(result: Result, kind: type[ModelsealError], words: str) -> None:
    """Check that a command failed with this error, this message, and nothing on stdout."""
    assert result.code == kind.exit_code, result.err
    assert words in result.error
    assert result.out == ""


def verify(room: Path, *more: str | Path, key: str | None = None) -> Result:
    return run(
        *("verify", room / "sealed", "--model", MODEL, "--signer", f"file:{room}/release.pub"),
        *("--key", key or f"file:{room}/my.key", *more),
    )


def change_seal(room: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = room / "sealed" / "seal.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_the_untouched_model_is_accepted(room: Path) -> None:
    result = verify(room)
    assert result.code == 0, result.err
    assert "every segment" in result.out


# --- sealing ---


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        pytest.param("notes.txt", b"hello", "it is not a model", id="some other file"),
        pytest.param("page.xml", b"<html></html>", "not an OpenVINO IR", id="some other xml"),
        pytest.param("broken.onnx", b"\x00garbage" * 50, "failed to", id="a broken onnx"),
        pytest.param("empty.onnx", b"", "it is empty", id="an empty onnx"),
    ],
)
def test_what_is_not_a_model_is_not_sealed(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    key = key_file(tmp_path)
    before = everything_below(tmp_path)
    refused(seal(tmp_path / name, tmp_path / "out", key=f"file:{key}"), errors.NotAModel, words)
    assert everything_below(tmp_path) == before


def test_a_folder_without_a_model_is_not_sealed(tmp_path: Path) -> None:
    key = key_file(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "tokenizer.json").write_text("{}")
    result = seal(tmp_path / "folder", tmp_path / "out", key=f"file:{key}")
    refused(result, errors.NotAModel, "there is no model in it")
    assert not (tmp_path / "out").exists()


def test_a_sealed_model_is_not_sealed_twice(room: Path) -> None:
    result = seal(room / "sealed", room / "again", key=f"file:{room}/my.key")
    refused(result, errors.NotAModel, "it is sealed already")
    assert not (room / "again").exists()


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    key = key_file(tmp_path)
    for name in ("absent.xml", "absent.onnx", "absent", "absent.txt"):
        result = seal(tmp_path / name, tmp_path / "out", key=f"file:{key}")
        refused(result, errors.InputUnreadable, "No such file")
    assert everything_below(tmp_path) == {"my.key"}


def test_a_file_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    key = key_file(tmp_path)
    (tmp_path / "folder").mkdir()
    small_onnx(tmp_path / "folder")
    os.mkfifo(tmp_path / "folder" / "pipe")
    result = seal(tmp_path / "folder", tmp_path / "out", key=f"file:{key}")
    refused(result, errors.InputUnreadable, "pipe': it is not an ordinary file")
    assert not (tmp_path / "out").exists()


def test_a_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    key = key_file(tmp_path)
    (tmp_path / "folder").mkdir()
    small_onnx(tmp_path / "folder")
    (tmp_path / "folder" / "loop").symlink_to(tmp_path)
    result = seal(tmp_path / "folder", tmp_path / "out", key=f"file:{key}")
    refused(result, errors.InputUnreadable, "it is a link to a folder")


def test_an_output_that_exists_is_never_written_over(room: Path) -> None:
    before = everything_below(room)
    content = (room / "sealed" / "seal.json").read_bytes()
    result = seal(room / "tiny.xml", room / "sealed", key=f"file:{room}/my.key")
    refused(result, errors.OutputFailed, "exist")
    assert everything_below(room) == before
    assert (room / "sealed" / "seal.json").read_bytes() == content


def test_a_wrong_name_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    plain_ir(tmp_path)
    key = key_file(tmp_path)
    before = everything_below(tmp_path)
    for name in ("noslash", "Upper/case", "a/b/c", "../../etc"):
        result = run(
            *("seal", tmp_path / "tiny.xml", "-o", tmp_path / "out", "--model", name),
            *("--version", "1", "--key", f"file:{key}"),
        )
        refused(result, errors.SettingsError, "failed to")
    assert everything_below(tmp_path) == before


def test_a_key_file_that_is_missing_stops_everything(tmp_path: Path) -> None:
    plain_ir(tmp_path)
    result = seal(tmp_path / "tiny.xml", tmp_path / "out", key=f"file:{tmp_path}/absent.key")
    refused(result, errors.InputUnreadable, "absent.key")
    assert not (tmp_path / "out").exists()


def test_an_unknown_kind_of_key_is_a_setting(tmp_path: Path) -> None:
    plain_ir(tmp_path)
    result = seal(tmp_path / "tiny.xml", tmp_path / "out", key="aws:alias/key")
    refused(result, errors.SettingsError, "failed to")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let this process write files of at most 1 MiB, as a disk does that has no room for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Return a folder with a plain model and a key, made before a disk gets full."""
    plain_ir(tmp_path)
    key_file(tmp_path)
    return tmp_path


def test_a_full_disk_leaves_nothing_at_the_destination(prepared: Path, small_files: None) -> None:
    before = everything_below(prepared)
    result = seal(prepared / "tiny.xml", prepared / "out", key=f"file:{prepared}/my.key")
    refused(result, errors.OutputSpace, "failed to")
    assert everything_below(prepared) == before


# --- opening ---


def test_a_plaintext_model_is_not_taken_for_a_sealed_one(room: Path) -> None:
    shutil.rmtree(room / "sealed")
    (room / "sealed").mkdir()
    shutil.copy(room / "tiny.xml", room / "sealed")
    refused(verify(room), errors.NotSealed, "failed to")
    shutil.copy(room / "tiny.xml", room / "sealed" / "seal.json")
    refused(verify(room), errors.NotSealed, "plaintext model")


def test_a_place_that_is_not_there_is_said_so(room: Path) -> None:
    shutil.rmtree(room / "sealed")
    result = verify(room)
    assert result.code in {errors.SourceNotFound.exit_code, errors.NotSealed.exit_code}
    assert result.error.startswith("failed to")


def test_another_key_file_does_not_open_it(room: Path) -> None:
    other = key_file(room, "other.key")
    result = verify(room, key=f"file:{other}")
    assert result.code in {errors.WrongKey.exit_code, errors.NoRecipient.exit_code}
    assert "failed to" in result.error


@pytest.fixture
def with_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a model that a passphrase opens; the variable names its file."""
    plain_ir(tmp_path, weights=1000)
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse\n")
    monkeypatch.setenv("MODELSEAL_PASSPHRASE_FILE", str(secret))
    assert seal(tmp_path / "tiny.xml", tmp_path / "sealed", key="passphrase:").code == 0
    return tmp_path


def open_with_passphrase(room: Path) -> Result:
    return run("verify", room / "sealed", "--model", MODEL, "--key", "passphrase:")


def test_the_right_passphrase_opens_it(with_passphrase: Path) -> None:
    assert open_with_passphrase(with_passphrase).code == 0


def test_a_wrong_passphrase_is_said_to_be_wrong_and_is_not_shown(with_passphrase: Path) -> None:
    (with_passphrase / "passphrase").write_text("hunter2-wrong")
    result = open_with_passphrase(with_passphrase)
    refused(result, errors.WrongPassphrase, "passphrase")
    assert "hunter2" not in result.err


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 5000])
def test_a_passphrase_file_that_makes_no_sense_is_a_setting(
    content: bytes, with_passphrase: Path
) -> None:
    (with_passphrase / "passphrase").write_bytes(content)
    refused(open_with_passphrase(with_passphrase), errors.SettingsError, "the passphrase")


def test_a_passphrase_file_that_is_missing_is_unreadable(with_passphrase: Path) -> None:
    (with_passphrase / "passphrase").unlink()
    refused(open_with_passphrase(with_passphrase), errors.InputUnreadable, "the passphrase")


def test_without_a_terminal_nobody_is_asked_for_a_passphrase(
    with_passphrase: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODELSEAL_PASSPHRASE_FILE")
    result = open_with_passphrase(with_passphrase)
    refused(result, errors.SettingsError, "this is not a terminal")
    assert "MODELSEAL_PASSPHRASE_FILE" in result.hint


def test_another_name_is_refused(room: Path) -> None:
    result = run(
        *("verify", room / "sealed", "--model", "team/other", "--key", f"file:{room}/my.key"),
        *("--signer", f"file:{room}/release.pub"),
    )
    refused(result, errors.PolicyViolation, "team/other is demanded")


def test_a_key_without_a_name_is_refused_because_the_file_must_not_give_it(room: Path) -> None:
    result = run("verify", room / "sealed", "--key", f"file:{room}/my.key")
    refused(result, errors.SettingsError, "--model is missing")


def test_an_expired_model_is_refused(room: Path) -> None:
    made = seal(
        *(room / "tiny.xml", room / "old", "--not-after", "2020-01-31"),
        key=f"file:{room}/my.key",
    )
    assert made.code == 0
    result = run("verify", room / "old", "--model", MODEL, "--key", f"file:{room}/my.key")
    refused(result, errors.Expired, "2020-01-31")


def test_an_unsigned_model_is_refused_where_a_signer_is_named(room: Path) -> None:
    assert seal(room / "tiny.xml", room / "unsigned", key=f"file:{room}/my.key").code == 0
    result = run("verify", room / "unsigned", "--signer", f"file:{room}/release.pub")
    refused(result, errors.SignatureMissing, "not signed")


def test_another_signer_is_refused(room: Path) -> None:
    assert run("keygen", "-o", room / "mallory", "--type", "ecdsa-p256").code == 0
    result = run("verify", room / "sealed", "--signer", f"file:{room}/mallory.pub")
    refused(result, errors.SignatureInvalid, "no signature is by a pinned signer")


def test_a_lower_sequence_and_another_digest_are_refused(room: Path) -> None:
    refused(verify(room, "--min-sequence", "7"), errors.RollbackRejected, "below 7")
    digest = "sha256:" + "0" * 64
    refused(verify(room, "--digest", digest), errors.RollbackRejected, "not the pinned one")


def largest(room: Path) -> Path:
    return max((room / "sealed" / "p").iterdir(), key=lambda path: path.stat().st_size)


def truncate(room: Path) -> None:
    with largest(room).open("r+b") as file:
        file.truncate(largest(room).stat().st_size - 1)


def extend(room: Path) -> None:
    with largest(room).open("ab") as file:
        file.write(b"\0")


def flip(room: Path) -> None:
    content = bytearray(largest(room).read_bytes())
    content[len(content) // 2] ^= 1
    largest(room).write_bytes(content)


def swap_segments(room: Path) -> None:
    content = bytearray(largest(room).read_bytes())
    size = 1 << 20
    first, second = content[74 : 74 + size], content[74 + size : 74 + 2 * size]
    content[74 : 74 + 2 * size] = second + first
    largest(room).write_bytes(content)


def splice(room: Path) -> None:
    """Put the same model's payload from another seal into this one."""
    made = seal(room / "tiny.xml", room / "second", key=f"file:{room}/my.key")
    assert made.code == 0
    shutil.copy(room / "second" / "p" / largest(room).name, largest(room))


def lose(room: Path) -> None:
    largest(room).unlink()


@pytest.mark.parametrize(
    ("attack", "kind"),
    [
        pytest.param(truncate, errors.TruncatedError, id="truncated"),
        pytest.param(extend, errors.TrailingData, id="extended"),
        pytest.param(flip, errors.SegmentInvalid, id="one bit flipped"),
        pytest.param(swap_segments, errors.SegmentInvalid, id="segments swapped"),
        pytest.param(splice, errors.KeyCommitmentMismatch, id="spliced from another seal"),
        pytest.param(lose, errors.SourceNotFound, id="lost"),
    ],
)
def test_a_changed_payload_is_refused(
    attack: Callable[[Path], None], kind: type[ModelsealError], room: Path
) -> None:
    attack(room)
    refused(verify(room), kind, "failed to")


@pytest.mark.parametrize("attack", [truncate, extend, flip, swap_segments, splice, lose])
def test_a_changed_payload_is_refused_without_a_key_too(
    attack: Callable[[Path], None], room: Path
) -> None:
    attack(room)
    result = run("verify", room / "sealed", "--signer", f"file:{room}/release.pub")
    assert result.code >= 70, result.err


def test_an_unknown_format_is_refused(room: Path) -> None:
    change_seal(room, lambda seal: seal.update(format="modelseal/2"))
    refused(verify(room), errors.UnsupportedVersion, "modelseal/2")


def test_an_absurd_length_is_refused_before_anything_is_allocated(room: Path) -> None:
    (room / "sealed" / "seal.json").write_bytes(b"{" + b" " * (2 << 20))
    refused(verify(room), errors.LimitExceeded, "longer than")


def test_foreign_text_of_a_seal_reaches_the_terminal_escaped(room: Path) -> None:
    change_seal(room, lambda seal: seal.update(format="\x1b[2Jmodelseal/9"))
    assert "\x1b" not in verify(room).err
    assert "\x1b" not in run("inspect", room / "sealed").err


def test_without_a_signer_one_line_says_what_that_means(room: Path) -> None:
    result = run("verify", room / "sealed", "--model", MODEL, "--key", f"file:{room}/my.key")
    assert result.code == 0
    warnings = [line for line in result.err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "--signer" in warnings[0]
    assert "signature" not in result.out


def test_a_passphrase_beside_another_key_must_be_wanted(with_passphrase: Path) -> None:
    key = key_file(with_passphrase)
    more = ("--key", "passphrase:")
    target = with_passphrase / "mixed"
    result = seal(with_passphrase / "tiny.xml", target, *more, key=f"file:{key}")
    refused(result, errors.SettingsError, "as weak as the passphrase")
    assert not target.exists()
    allowed = seal(
        *(with_passphrase / "tiny.xml", target, *more, "--allow-weakest"), key=f"file:{key}"
    )
    assert allowed.code == 0
