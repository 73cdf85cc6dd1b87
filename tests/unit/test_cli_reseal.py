"""Sealing anew: another data key, the same content, and nothing on a disk in between."""

import os
from pathlib import Path

import pytest

import modelseal
from modelseal import errors
from modelseal.envelope import parse_seal
from support.cli import Result, everything_below, run
from support.cli_models import CANARY, MODEL, key_file, plain_ir, seal


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """Return a folder with a signed model, a key and a signing key."""
    key_file(tmp_path)
    assert run("keygen", "-o", tmp_path / "release", "--type", "ed25519").code == 0
    model = plain_ir(tmp_path)
    more = ("--sign", tmp_path / "release", "--sequence", "4", "--not-after", "2126-01-01")
    assert seal(model, tmp_path / "old", *more, key=f"file:{tmp_path}/my.key").code == 0
    return tmp_path


def reseal(room: Path, *more: str | Path, source: str = "old") -> Result:
    return run(
        *("reseal", room / source, "-o", room / "new", "--model", MODEL),
        *("--key", f"file:{room}/my.key", "--signer", f"file:{room}/release.pub"),
        *("--sign", room / "release", *more),
    )


def content(room: Path, name: str, key: str = "my.key") -> dict[str, bytes]:
    signers = [f"file:{room}/release.pub"]
    with modelseal.open(
        room / name, key=f"file:{room / key}", model=MODEL, signers=signers
    ) as opened:
        return {path: bytes(opened.read(path)) for path in opened.files}


def test_the_content_is_the_same_and_everything_else_is_new(room: Path) -> None:
    result = reseal(room, "--json")
    assert result.code == 0, result.err
    old, new = (parse_seal((room / name / "seal.json").read_bytes()) for name in ("old", "new"))
    assert content(room, "old") == content(room, "new")
    assert old.manifest.seal_id != new.manifest.seal_id
    assert not {each.digest for each in old.manifest.files} & {
        each.digest for each in new.manifest.files
    }
    assert new.manifest.sequence == old.manifest.sequence + 1
    assert (new.manifest.version, new.manifest.not_after) == ("1", old.manifest.not_after)


def test_the_old_recipient_does_not_open_the_new_seal(room: Path) -> None:
    assert reseal(room).code == 0
    old = parse_seal((room / "old" / "seal.json").read_bytes())
    text = (room / "new" / "seal.json").read_text()
    new = parse_seal(text.encode())
    spliced = text.replace(new.recipients[0].wrapped, old.recipients[0].wrapped)
    (room / "new" / "seal.json").write_text(spliced)
    result = run("verify", room / "new", "--model", MODEL, "--key", f"file:{room}/my.key")
    assert result.code == errors.WrappedKeyInvalid.exit_code


def test_pinning_the_new_sequence_shuts_the_old_seal_out(room: Path) -> None:
    assert reseal(room).code == 0
    for name, code in (("old", errors.RollbackRejected.exit_code), ("new", 0)):
        result = run("verify", room / name, "--model", MODEL, "--min-sequence", "5")
        assert result.code == code


def test_another_key_may_get_the_new_one(room: Path) -> None:
    key_file(room, "other.key")
    assert reseal(room, "--to", f"file:{room}/other.key", "--version", "2").code == 0
    assert content(room, "new", "other.key") == content(room, "old")
    refused = run("verify", room / "new", "--model", MODEL, "--key", f"file:{room}/my.key")
    assert refused.code == errors.NoRecipient.exit_code


@pytest.mark.parametrize("damage", ["payload", "signer", "destination"])
def test_what_fails_leaves_nothing_behind(room: Path, damage: str) -> None:
    if damage == "payload":
        payload = room / "old" / "p" / "2.floe"
        raw = bytearray(payload.read_bytes())
        raw[-1] ^= 1
        payload.write_bytes(raw)
    elif damage == "signer":
        assert run("keygen", "-o", room / "mallory", "--type", "ed25519").code == 0
        os.replace(room / "mallory.pub", room / "release.pub")
    else:
        (room / "new").mkdir()
    before = everything_below(room)
    result = reseal(room)
    expected = {
        "payload": errors.PayloadError,
        "signer": errors.SignatureInvalid,
        "destination": errors.OutputFailed,
    }[damage]
    assert result.code // 10 == expected.exit_code // 10
    assert everything_below(room) == before


def test_no_plaintext_reaches_the_folder(room: Path) -> None:
    (room / "tiny.bin").unlink()
    assert reseal(room).code == 0
    for path in room.rglob("*"):
        assert not path.is_file() or CANARY not in path.read_bytes()
