"""The demo's parts: features as magika computes them, readable samples, and what noise is."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelseal.cli.story import filetype, noise, samples
from support.cli import environment

TESTS = Path(__file__).resolve().parents[1]
CONTENTS = {
    **samples.samples(),
    "a short file": b"hello",
    "nothing": b"",
    "white space only": b" \n\t " * 2000,
    "longer than a block": b"  " + os.urandom(10_000) + b"\n\n",
    "as long as the features": b"x" * 1024,
    "one byte more": b"x" * 1025,
}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what magika itself says of the contents."""
    asked = {name: base64.b64encode(content).decode() for name, content in CONTENTS.items()}
    done = subprocess.run(
        [sys.executable, "-m", "support.cli_magika"],
        input=json.dumps(asked),
        env=environment(tmp_path_factory.mktemp("home"), PYTHONPATH=str(TESTS)),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", CONTENTS)
def test_features_are_those_that_magika_itself_computes(name: str, theirs: dict[str, Any]) -> None:
    assert filetype.load().features(CONTENTS[name]).tolist() == theirs[name]["features"]


@pytest.mark.parametrize("name", samples.samples())
def test_each_sample_is_a_file_that_magika_recognises(name: str, theirs: dict[str, Any]) -> None:
    assert theirs[name]["label"] == name.partition(".")[0]


def test_the_model_is_found_without_importing_its_package() -> None:
    code = "import sys; from modelseal.cli.story import filetype; filetype.load(); " + (
        "sys.exit('magika' in sys.modules or 'onnxruntime' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


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
