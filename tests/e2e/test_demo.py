"""`modelseal demo` shows what it promises, offline, without rights, and leaves nothing."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelseal.cli.story import samples
from support.cli import Result, environment, program, spawn
from support.cli_serve import eventually

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def told(home: Path) -> Result:
    """Run the demo once, in a home of its own."""
    return spawn("demo", "--json", env=environment(home, TMPDIR=str(home)), timeout=240)


def test_the_story_ends_well_and_in_less_than_two_minutes(told: Result) -> None:
    assert told.code == 0, told.err
    assert told.json["seconds"] < 120


def test_the_sealed_bytes_are_noise_without_a_single_name(told: Result) -> None:
    assert told.json["modelWords"] > 100
    assert told.json["wordsFound"] == 0
    assert told.json["sealedEntropy"] > 7.999 > told.json["plainEntropy"]


def test_every_sample_is_recognised_as_by_the_plain_model(told: Result) -> None:
    assert told.json["answers"] == {name: name.partition(".")[0] for name in samples.samples()}
    assert told.json["difference"] <= 1e-4


def test_revoking_the_key_unloads_the_model_within_the_lease(told: Result) -> None:
    assert 0 < told.json["revokedSeconds"] <= 8
    assert told.json["exitCode"] == 63


def test_nothing_is_left_behind(told: Result, home: Path) -> None:
    assert told.code == 0
    assert list(home.iterdir()) == []


@pytest.fixture
def begun(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        program("demo"),
        env=environment(tmp_path, TMPDIR=str(tmp_path)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    yield process
    process.kill()
    process.communicate(timeout=30)


def test_an_interrupted_demo_cleans_up_after_itself(
    begun: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    assert begun.stderr is not None
    for line in begun.stderr:
        if "A key service" in line:
            break
    begun.send_signal(signal.SIGINT)
    _, said = begun.communicate(timeout=60)
    assert begun.returncode == 130
    assert "modelseal: error: interrupted" in said
    eventually(lambda: list(tmp_path.iterdir()) == [])


def test_it_reads_like_a_story(tmp_path: Path) -> None:
    help_text = spawn("demo", "--help", env=environment(tmp_path)).out
    assert "magika" in help_text
    assert "OpenBao" in help_text
