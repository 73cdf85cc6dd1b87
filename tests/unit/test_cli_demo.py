"""The demo's parts: features as magika computes them, readable samples, and what noise is."""

import os

import numpy as np
import pytest
from magika import Magika

from modelseal.cli.story import filetype, noise, samples

CONTENTS = {
    **samples.samples(),
    "a short file": b"hello",
    "nothing": b"",
    "white space only": b" \n\t " * 2000,
    "longer than a block": b"  " + os.urandom(10_000) + b"\n\n",
    "as long as the features": b"x" * 1024,
    "one byte more": b"x" * 1025,
}


class InMemory:
    """What magika calls a seekable."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def read_at(self, offset: int, size: int) -> bytes:
        return self._content[offset : offset + size]


@pytest.mark.parametrize("name", CONTENTS)
def test_features_are_those_that_magika_itself_computes(name: str) -> None:
    kind = filetype.load()
    theirs = Magika._extract_features_from_seekable(
        InMemory(CONTENTS[name]),  # type: ignore[arg-type]  # a protocol of theirs without a name
        beg_size=kind.begin,
        mid_size=0,
        end_size=kind.end,
        padding_token=kind.padding,
        block_size=kind.block,
        use_inputs_at_offsets=False,
    )
    assert kind.features(CONTENTS[name]).tolist() == [*theirs.beg, *theirs.end]


@pytest.mark.parametrize("name", samples.samples())
def test_each_sample_is_a_file_that_magika_recognises(name: str) -> None:
    found = Magika().identify_bytes(samples.samples()[name])
    assert str(found.dl.label) == name.partition(".")[0]


def test_the_best_label_is_the_one_with_the_highest_score() -> None:
    kind = filetype.load()
    scores = np.zeros(len(kind.labels), dtype=np.float32)
    scores[kind.labels.index("python")] = 0.75
    assert kind.name(scores) == ("python", 0.75)


def test_noise_has_eight_bits_for_each_byte_and_text_has_fewer() -> None:
    assert noise.entropy(os.urandom(1 << 20)) > 7.999
    assert noise.entropy(b"abcd" * 1000) == 2.0
    assert noise.entropy(b"aaaa") == 0.0


def test_words_of_a_model_can_be_found_in_it_and_not_in_noise() -> None:
    model = filetype.load().model.read_bytes()
    words = noise.words(model)
    assert b"target_label" in words
    assert noise.common(words, model) == words
    assert noise.common(words, os.urandom(len(model))) == set()
