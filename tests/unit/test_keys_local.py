"""Key files and passphrases: committing wraps, fixed cost, and files that are not keys."""

import base64
import os
import secrets
import stat
import threading
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.kdf import argon2

from modelseal.envelope import Recipient, kek_context
from modelseal.errors import (
    InputUnreadable,
    OutputFailed,
    SettingsError,
    WrappedKeyInvalid,
    WrongKey,
    WrongPassphrase,
)
from modelseal.keys import KeyFileProvider, PassphraseProvider, generate_key_file, local
from modelseal.secret import Secret

CONTEXT = kek_context("vision/filetype", bytes(32))
DEK = bytes(range(32))
CANARY = "canary-key-51c0"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "my.key"
    generate_key_file(path)
    return path


def passphrase(text: str) -> PassphraseProvider:
    return PassphraseProvider(lambda: Secret(text.encode()))


def altered(recipient: Recipient, position: int) -> Recipient:
    raw = bytearray(base64.b64decode(recipient.wrapped))
    raw[position] ^= 1
    return Recipient(kind=recipient.kind, key=recipient.key, wrapped=base64.b64encode(raw).decode())


def test_a_key_file_opens_what_it_wrapped_and_each_wrap_is_another(key: Path) -> None:
    keys = KeyFileProvider(key)
    one, two = (keys.wrap(Secret(DEK), CONTEXT) for _ in range(2))
    assert one.wrapped != two.wrapped
    assert keys.matches(one)
    assert bytes(keys.unwrap(keys.rewrap(one, CONTEXT), CONTEXT).buffer) == DEK


def test_a_new_key_file_is_its_owners_only_and_replaces_nothing(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        generate_key_file(tmp_path / "my.key")
    finally:
        os.umask(before)
    content = (tmp_path / "my.key").read_bytes()
    assert stat.S_IMODE((tmp_path / "my.key").stat().st_mode) == 0o600
    with pytest.raises(OutputFailed):
        generate_key_file(tmp_path / "my.key")
    assert (tmp_path / "my.key").read_bytes() == content


def test_a_key_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "my.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputFailed):
        generate_key_file(tmp_path / "my.key")
    assert not (tmp_path / "elsewhere").exists()


def test_a_key_file_that_is_not_there_is_unreadable(tmp_path: Path) -> None:
    keys = KeyFileProvider(tmp_path / "none.key")
    for path in (tmp_path / "none.key", tmp_path):
        with pytest.raises(InputUnreadable):
            KeyFileProvider(path).wrap(Secret(DEK), CONTEXT)
    with pytest.raises(InputUnreadable):
        keys.matches(Recipient(kind="file", key="0" * 32, wrapped=""))


GOOD = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "content",
    [
        "",
        CANARY,
        GOOD,
        f"modelseal-key-2:{GOOD}",
        f"modelseal-key-1:{CANARY}",
        f"modelseal-key-1:{base64.b64encode(bytes(31)).decode()}",
        f"modelseal-key-1:{base64.b64encode(bytes(33)).decode()}",
        f"modelseal-key-1:{GOOD[:-1]}",
        f"modelseal-key-1:{GOOD[:-2]}B=",
        f"modelseal-key-1:{GOOD}\n{CANARY}",
        f"modelseal-key-1:{GOOD}" + "\n" * 300 + CANARY,
        "\0" * 200,
    ],
)
def test_a_file_that_is_no_key_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "some.key"
    path.write_text(content)
    with pytest.raises(SettingsError) as caught:
        KeyFileProvider(path).wrap(Secret(DEK), CONTEXT)
    assert CANARY not in repr(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("how", ["device", "pipe"])
def test_a_key_file_is_an_ordinary_file_and_is_not_waited_for(tmp_path: Path, how: str) -> None:
    path = Path("/dev/zero")
    if how == "pipe":
        path = tmp_path / "pipe"
        os.mkfifo(path)
    with pytest.raises((SettingsError, InputUnreadable)):
        KeyFileProvider(path).wrap(Secret(DEK), CONTEXT)


@pytest.mark.negative(12)
def test_every_altered_byte_of_a_wrap_is_refused(key: Path) -> None:
    keys = KeyFileProvider(key)
    recipient = keys.wrap(Secret(DEK), CONTEXT)
    for position in range(92):
        with pytest.raises(WrongKey if position < 32 else WrappedKeyInvalid):
            keys.unwrap(altered(recipient, position), CONTEXT)


@pytest.mark.negative(13)
@pytest.mark.parametrize(
    "context",
    [kek_context("vision/filetype", b"\1" * 32), kek_context("vision/other", bytes(32)), b""],
)
def test_a_wrap_for_another_seal_or_model_is_refused(key: Path, context: bytes) -> None:
    keys = KeyFileProvider(key)
    recipient = keys.wrap(Secret(DEK), context)
    with pytest.raises(WrappedKeyInvalid):
        keys.unwrap(recipient, CONTEXT)


def test_another_key_file_is_said_to_be_another_before_anything_is_decrypted(
    key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipient = KeyFileProvider(key).wrap(Secret(DEK), CONTEXT)
    generate_key_file(tmp_path / "other.key")
    other = KeyFileProvider(tmp_path / "other.key")
    assert not other.matches(recipient)
    monkeypatch.setattr(local, "AESGCM", None)
    with pytest.raises(WrongKey):
        other.unwrap(recipient, CONTEXT)


def test_a_wrap_commits_to_one_key(key: Path) -> None:
    """Whoever makes one wrap for two keys is refused by the commitment, whatever the tag says."""
    recipient = KeyFileProvider(key).wrap(Secret(DEK), CONTEXT)
    wrapped = local.decode_wrap(recipient.wrapped)
    own = local.read_key_file(key)
    assert local.commits_to(own, wrapped)
    with Secret(secrets.token_bytes(32)) as other:
        assert not local.commits_to(other, wrapped)


@pytest.mark.parametrize("length", [0, 1, 91, 93, 108])
def test_a_wrap_of_another_length_is_malformed(key: Path, length: int) -> None:
    wrapped = base64.b64encode(bytes(length)).decode()
    recipient = Recipient(kind="file", key="0" * 32, wrapped=wrapped)
    with pytest.raises(WrappedKeyInvalid):
        KeyFileProvider(key).unwrap(recipient, CONTEXT)


@pytest.mark.parametrize("spoil", ["{}\n", " {}", "{}=", "\u00e9{}"])
def test_a_wrap_has_one_text_form(key: Path, spoil: str) -> None:
    keys = KeyFileProvider(key)
    recipient = keys.wrap(Secret(DEK), CONTEXT)
    spoilt = Recipient(kind="file", key=recipient.key, wrapped=spoil.format(recipient.wrapped))
    with pytest.raises(WrappedKeyInvalid):
        keys.unwrap(spoilt, CONTEXT)


def test_a_key_file_that_was_taken_away_ends_the_right(key: Path) -> None:
    keys = KeyFileProvider(key)
    recipient = keys.wrap(Secret(DEK), CONTEXT)
    keys.check(recipient, CONTEXT)
    key.unlink()
    with pytest.raises(InputUnreadable):
        keys.check(recipient, CONTEXT)


def test_a_passphrase_opens_what_it_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = passphrase("correct horse battery staple")
    recipient = keys.wrap(Secret(DEK), CONTEXT)
    assert keys.matches(recipient)
    assert bytes(keys.unwrap(recipient, CONTEXT).buffer) == DEK


@pytest.mark.parametrize("wrong", ["Correct", "correct ", "correc", "", "c\u00f3rrect"])
def test_a_wrong_passphrase_is_said_to_be_wrong(wrong: str) -> None:
    recipient = passphrase("correct").wrap(Secret(DEK), CONTEXT)
    with pytest.raises(WrongPassphrase) as caught:
        passphrase(wrong).unwrap(recipient, CONTEXT)
    assert "orrect" not in repr(caught.value)


@pytest.mark.negative(12)
def test_an_altered_salt_or_commitment_looks_like_another_passphrase() -> None:
    recipient = passphrase("correct").wrap(Secret(DEK), CONTEXT)
    for position, kind in ((0, WrongPassphrase), (16, WrongPassphrase), (60, WrappedKeyInvalid)):
        with pytest.raises(kind):
            passphrase("correct").unwrap(altered(recipient, position), CONTEXT)


def test_the_cost_is_fixed_and_a_file_cannot_raise_or_lower_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipient = passphrase("correct").wrap(Secret(DEK), CONTEXT)
    costs = []

    def noted(**arguments: object) -> argon2.Argon2id:
        costs.append({name: value for name, value in arguments.items() if name != "salt"})
        return argon2.Argon2id(**arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(local, "Argon2id", noted)
    claim = Recipient(kind="passphrase", key="passphrase", wrapped=recipient.wrapped)
    passphrase("correct").unwrap(claim, CONTEXT)
    assert costs == [{"length": 32, "iterations": 3, "lanes": 4, "memory_cost": 64 * 1024}]
    for name in ("passphrase?m=1", "argon2id", "passphrase:t=1"):
        other = Recipient(kind="passphrase", key=name, wrapped=recipient.wrapped)
        assert not passphrase("correct").matches(other)


def test_threads_that_stretch_passphrases_at_once_all_come_back() -> None:
    recipient = passphrase("correct").wrap(Secret(DEK), CONTEXT)
    opened: list[bytes] = []

    def unwrap() -> None:
        keys = passphrase("correct")
        opened.extend(bytes(keys.unwrap(recipient, CONTEXT).buffer) for _ in range(3))

    threads = [threading.Thread(target=unwrap, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert opened == [DEK] * 12


def test_each_guess_costs_real_time() -> None:
    recipient = passphrase("correct").wrap(Secret(DEK), CONTEXT)
    begun = time.process_time()
    with pytest.raises(WrongPassphrase):
        passphrase("guess").unwrap(recipient, CONTEXT)
    assert time.process_time() - begun > 0.02


@pytest.mark.negative(33)
def test_the_passphrase_and_the_keys_are_wiped_after_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Secret] = []

    class Noted(Secret):
        def __init__(self, value: bytes | bytearray | memoryview) -> None:
            super().__init__(value)
            made.append(self)

    monkeypatch.setattr(local, "Secret", Noted)
    keys = PassphraseProvider(lambda: Noted(b"correct"))
    recipient = keys.wrap(Noted(DEK), CONTEXT)
    dek = keys.unwrap(recipient, CONTEXT)
    alive = []
    for each in made:
        try:
            alive.append(bytes(each.buffer))
        except ValueError:
            continue
    assert alive == [DEK, DEK]  # the one that was handed in and the one that was handed out
    assert bytes(dek.buffer) == DEK
