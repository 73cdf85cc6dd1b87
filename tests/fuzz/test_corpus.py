"""Every input that fuzzing ever found worth keeping keeps the parsers' promises."""

from pathlib import Path

import pytest

from fuzz.targets import TARGETS

CORPUS = Path(__file__).resolve().parent / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_refused_by_name_or_has_one_meaning(name: str) -> None:
    inputs = sorted((CORPUS / name).iterdir())
    outcomes = [TARGETS[name](path.read_bytes()) for path in inputs]
    assert any(outcomes), "at least one input is accepted, or the target checks nothing"
    assert not all(outcomes)


@pytest.mark.parametrize("name", TARGETS)
def test_each_input_is_refused_or_has_one_meaning_in_another_place_too(name: str) -> None:
    for folder in CORPUS.iterdir():
        for path in sorted(folder.iterdir())[:40]:
            TARGETS[name](path.read_bytes())
