"""Recipients that come and go, with key files and passphrases: no key service is needed."""

import os
import signal
from pathlib import Path

import pytest

from modelseal import errors
from modelseal.cli.environment import open_key
from modelseal.cli.rewrapping import Demand, Outcome, rewrap
from modelseal.envelope import parse_seal
from modelseal.keys import KeyProvider
from support.cli import Result, everything_below, run
from support.cli_models import MODEL, key_file, plain_ir, seal


class Room:
    """A sealed model for a key file, and further keys."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        (folder / "passphrase").write_text("correct horse\n")
        patch.setenv("MODELSEAL_PASSPHRASE_FILE", str(folder / "passphrase"))
        self.key, self.other = key_file(folder), key_file(folder, "other.key")
        self.plain, self.sealed = plain_ir(folder, weights=100), folder / "sealed"
        assert seal(self.plain, self.sealed, key=f"file:{self.key}").code == 0

    def three(self, key: str) -> Path:
        """Return a folder with three sealed models for a key."""
        parent = self.folder / "three"
        parent.mkdir()
        for number in range(3):
            assert seal(self.plain, parent / f"m{number}", key=key).code == 0
        return parent

    def rewrap(self, *more: str | Path, key: str = "") -> Result:
        key = key or f"file:{self.key}"
        return run("rewrap", self.sealed, "--model", MODEL, "--key", key, *more)

    def verify(self, key: str) -> int:
        return run("verify", self.sealed, "--model", MODEL, "--key", key).code

    def text(self) -> bytes:
        return (self.sealed / "seal.json").read_bytes()

    def kinds(self) -> list[str]:
        return [each.kind for each in parse_seal(self.text()).recipients]


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    return Room(tmp_path, monkeypatch)


def test_a_key_that_was_added_opens_the_model_and_one_that_was_removed_does_not(
    room: Room,
) -> None:
    before = parse_seal(room.text())
    assert room.rewrap("--add", f"file:{room.other}").code == 0
    assert room.verify(f"file:{room.key}") == room.verify(f"file:{room.other}") == 0
    removed = room.rewrap("--remove", f"file:{room.key}", key=f"file:{room.other}")
    assert removed.code == 0
    assert room.verify(f"file:{room.key}") == errors.NoRecipient.exit_code
    assert room.verify(f"file:{room.other}") == 0
    after = parse_seal(room.text())
    assert (before.envelope, before.mac) == (after.envelope, after.mac)


def test_a_passphrase_beside_another_key_has_to_be_wanted(room: Room) -> None:
    before = room.text()
    refused = room.rewrap("--add", "passphrase:")
    assert refused.code == errors.SettingsError.exit_code
    assert "as weak as the passphrase" in refused.error
    assert room.text() == before
    assert room.rewrap("--add", "passphrase:", "--allow-weakest").code == 0
    assert room.kinds() == ["file", "passphrase"]
    assert room.verify("passphrase:") == 0


def test_a_passphrase_may_take_the_place_of_a_key_file(room: Room) -> None:
    assert room.rewrap("--add", "passphrase:", "--remove", f"file:{room.key}").code == 0
    assert room.kinds() == ["passphrase"]


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("--remove", "file:my.key"), errors.SettingsError),
        (("--add", "file:my.key"), errors.SettingsError),
        (("--remove", "file:other.key"), errors.NoRecipient),
        (("--add", "file:none.key"), errors.InputUnreadable),
        (("--add", "nonsense"), errors.SettingsError),
    ],
    ids=["the last one", "twice", "not there", "no file", "no key"],
)
def test_a_change_that_makes_no_sense_changes_nothing(
    room: Room, words: tuple[str, str], kind: type[errors.ModelsealError]
) -> None:
    before, files = room.text(), everything_below(room.folder)
    option, uri = words
    result = room.rewrap(option, uri.replace("file:", f"file:{room.folder}/"))
    assert result.code == kind.exit_code
    assert (room.text(), everything_below(room.folder)) == (before, files)


def test_all_refuses_while_a_recipient_would_stay_as_it_is(room: Room) -> None:
    assert room.rewrap("--add", f"file:{room.other}").code == 0
    refused = room.rewrap("--all")
    assert refused.code == errors.SettingsError.exit_code
    assert "no --key for" in refused.error
    assert room.rewrap("--all", "--key", f"file:{room.other}").code == 0


def test_a_ninth_recipient_is_refused(room: Room) -> None:
    keys = [key_file(room.folder, f"k{number}.key") for number in range(8)]
    seven = [word for key in keys[:7] for word in ("--add", f"file:{key}")]
    assert room.rewrap(*seven).code == 0
    before = room.text()
    assert room.rewrap("--add", f"file:{keys[7]}").code == errors.LimitExceeded.exit_code
    assert room.text() == before


def test_a_passphrase_is_read_once_for_many_models(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = room.three("passphrase:")
    reads = []

    def counted(uri: str, *, new: bool) -> KeyProvider:
        reads.append(uri)
        return open_key(uri, new=new)

    monkeypatch.setattr("modelseal.cli.keyring.open_key", counted)
    result = run("rewrap", three, "--model", MODEL, "--key", "passphrase:", "--json")
    assert result.json["counts"] == {"rewrapped": 3}
    assert reads == ["passphrase:"]


def test_a_process_that_is_killed_ends_the_run_with_what_to_do(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel kills where memory ends."""
    three = room.three(f"file:{room.key}")
    ours = os.getpid()

    def killed(place: str, demand: Demand) -> Outcome:
        if os.getpid() != ours:
            os.kill(os.getpid(), signal.SIGKILL)
        return rewrap(place, demand)

    monkeypatch.setattr("modelseal.cli.rewrap.rewrap", killed)
    result = run("rewrap", three, "--model", MODEL, "--key", f"file:{room.key}")
    assert result.code == errors.OutOfMemory.exit_code
    assert "a process was killed" in result.error
    assert "run the command again" in result.hint


def test_the_permissions_of_the_file_stay(room: Room) -> None:
    (room.sealed / "seal.json").chmod(0o640)
    assert room.rewrap("--add", f"file:{room.other}").code == 0
    assert (room.sealed / "seal.json").stat().st_mode & 0o777 == 0o640


def test_links_are_not_followed_out_of_a_folder_of_models(room: Room, tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    (parent / "linked").symlink_to(room.sealed)
    (parent / ".hidden").mkdir()
    before = room.text()
    result = run("rewrap", parent, "--model", MODEL, "--key", f"file:{room.key}")
    assert result.code == errors.NotSealed.exit_code
    assert room.text() == before
