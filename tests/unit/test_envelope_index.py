"""The encrypted index: unsafe paths and everything else that is wrong is refused: number 4."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelseal import contract
from modelseal.envelope import Index, IndexEntry, Seal, encode_index, parse_index
from modelseal.envelope.index import path_problem
from modelseal.errors import IndexInvalid, LimitExceeded
from support.mutation import Json, mutated
from support.seals import tiny_seal

SEAL: Seal = tiny_seal([b"index", b"a", b"b"]).seal
INDEX = Index(
    entries=(
        IndexEntry(number=2, path="model.xml", role="model", sha256=bytes(32)),
        IndexEntry(number=1, path="sub/naïve.bin", role="weights", sha256=bytes(range(32))),
    )
)
JSON: Json = json.loads(encode_index(INDEX))


def changed(change: Callable[[Json], object]) -> bytes:
    value = json.loads(json.dumps(JSON))
    change(value)
    return json.dumps(value).encode()


def test_an_index_is_read_as_it_was_written_in_load_order() -> None:
    assert parse_index(encode_index(INDEX), SEAL) == INDEX


@pytest.mark.negative(4)
@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../x",
        "a/../b",
        "a/..",
        "./a",
        "a/./b",
        "a//b",
        "a/",
        "C:\\x",
        "a\\..\\b",
        "a\x00b",
        "a\nb",
        "a\x1b[31m",
        "a\x7f",
        "a\x85b",
        "a\u2028b",
        "\ud800",
        "x" * 256,
        "é" * 128,
        "a/" * 512 + "b",
    ],
)
def test_an_unsafe_path_is_refused(path: str) -> None:
    data = changed(lambda value: value["files"][0].update(path=path))
    with pytest.raises(IndexInvalid):
        parse_index(data, SEAL)
    assert path_problem([path])


@pytest.mark.parametrize(
    "path", ["a", "a.b", "..a", "a/b/c", "...", "ключ", " a", "a b", "x" * 255]
)
def test_an_ordinary_path_is_accepted(path: str) -> None:
    assert path_problem([path]) == ""


@pytest.mark.negative(4)
@pytest.mark.parametrize("paths", [("a", "a"), ("a", "a/b"), ("a/b/c", "a/b"), ("a/b", "a")])
def test_paths_that_cannot_exist_together_are_refused(paths: tuple[str, str]) -> None:
    def change(value: Json) -> None:
        for entry, path in zip(value["files"], paths, strict=True):
            entry["path"] = path

    with pytest.raises(IndexInvalid, match=r"twice|a file and a folder"):
        parse_index(changed(change), SEAL)


CHANGES: dict[str, Callable[[Json], object]] = {
    "a missing file": lambda value: value["files"].pop(),
    "no files": lambda value: value.update(files=[]),
    "too many files": lambda value: value.update(files=[{}] * (contract.MAX_FILES + 1)),
    "a number twice": lambda value: value["files"][0].update(number=1),
    "the index itself": lambda value: value["files"][0].update(number=0),
    "a number that is not there": lambda value: value["files"][0].update(number=3),
    "a number beyond all": lambda value: value["files"][0].update(number=10**9),
    "an unknown role": lambda value: value["files"][0].update(role="code"),
    "an empty role": lambda value: value["files"][0].update(role=""),
    "an unknown field": lambda value: value["files"][0].update(mode=0o4755),
    "an unknown field outside": lambda value: value.update(run="x"),
    "a short hash": lambda value: value["files"][0].update(sha256="AAAA"),
    "a path that is no text": lambda value: value["files"][0].update(path=1),
}


@pytest.mark.negative(4)
@pytest.mark.parametrize("name", CHANGES)
def test_another_index_is_refused(name: str) -> None:
    with pytest.raises(IndexInvalid):
        parse_index(changed(CHANGES[name]), SEAL)


@given(data=st.data())
@settings(max_examples=200)
def test_whatever_an_index_is_changed_to_is_refused_or_read_as_it_says(
    data: st.DataObject,
) -> None:
    changed = json.dumps(data.draw(mutated(JSON))).encode()
    try:
        index = parse_index(changed, SEAL)
    except IndexInvalid:
        return
    assert parse_index(encode_index(index), SEAL) == index
    assert path_problem([entry.path for entry in index.entries]) == ""


@given(st.binary(max_size=100))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(IndexInvalid):
        parse_index(noise, SEAL)


def test_an_index_that_would_be_too_long_is_not_written() -> None:
    entries = tuple(
        IndexEntry(number=number, path=f"{number:0>1020}", role="other", sha256=bytes(32))
        for number in range(1, 4096)
    )
    with pytest.raises(LimitExceeded, match="longer than 4194304"):
        encode_index(Index(entries=entries))
