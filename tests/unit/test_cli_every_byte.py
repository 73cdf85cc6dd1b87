"""Every byte of a sealed model, changed: the command line refuses it by name, each time."""

import json
from collections import Counter
from pathlib import Path

import pytest

from support.cli import Result, run
from support.cli_models import MODEL, key_file, plain_ir, seal


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """Return a folder with the smallest sealed model, signed."""
    plain_ir(tmp_path, weights=64)
    key_file(tmp_path)
    assert run("keygen", "-o", tmp_path / "release", "--type", "ed25519").code == 0
    made = seal(
        *(tmp_path / "tiny.xml", tmp_path / "sealed", "--sign", tmp_path / "release"),
        key=f"file:{tmp_path / 'my.key'}",
    )
    assert made.code == 0, made.err
    return tmp_path


def verify(room: Path) -> Result:
    return run(
        *("verify", room / "sealed", "--model", MODEL, "--signer", f"file:{room}/release.pub"),
        *("--key", f"file:{room}/my.key"),
    )


def changed(room: Path, path: Path, shift: int) -> list[Result]:
    """Verify the model once for each byte of a file, changed in another bit each time."""
    whole, results = path.read_bytes(), []
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= 1 << (position + shift) % 8
        path.write_bytes(data)
        results.append(verify(room))
    path.write_bytes(whole)
    return results


@pytest.mark.parametrize(
    ("name", "codes"),
    [("p/0.floe", {81, 82}), ("p/1.floe", {81, 82}), ("p/2.floe", {81, 82})],
)
def test_every_changed_byte_of_a_payload_is_refused(room: Path, name: str, codes: set[int]) -> None:
    results = changed(room, room / "sealed" / name, shift=1)
    assert len(results) > 100
    assert {result.code for result in results} == codes
    assert all(result.error and result.out == "" for result in results)
    assert verify(room).code == 0


def test_every_changed_byte_of_a_seal_is_refused_or_changes_nothing_that_was_signed(
    room: Path,
) -> None:
    text, untouched = (room / "sealed/seal.json").read_bytes(), verify(room)
    results = changed(room, room / "sealed/seal.json", shift=2)
    codes = Counter(result.code for result in results)
    accepted = [position for position, result in enumerate(results) if result.code == 0]
    assert {results[position].out for position in accepted} <= {untouched.out}
    assert all(20 <= code < 70 for code in codes if code), codes
    hint = json.loads(text)["envelope"]["signatures"][0]["keyid"].encode()
    begin = text.index(hint)
    assert set(accepted) <= set(range(begin, begin + len(hint))), "only the hint is not signed"
