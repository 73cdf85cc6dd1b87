"""A thousand opens with faults, and processes killed in the middle, leave nothing behind."""

import collections
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelseal.cli.leaks import places
from modelseal.cli.leaks.canary import Canary, hatch
from support.cli import environment, everything_below, run
from support.small_volume import for_root, small_volume

pytestmark = pytest.mark.e2e
MODEL = "team/canary"
SUPPORT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Canary:
    return hatch(tmp_path_factory.mktemp("canary"))


@pytest.fixture
def sealed(canary: Canary, tmp_path: Path) -> Path:
    assert run("keygen", "-o", tmp_path / "my.key").code == 0
    made = run(
        *("seal", canary.xml, "-o", tmp_path / "sealed", "--model", MODEL, "--version", "1"),
        *("--key", f"file:{tmp_path / 'my.key'}"),
    )
    assert made.code == 0, made.err
    return tmp_path / "sealed"


@pytest.fixture
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with small_volume(tmp_path_factory.mktemp("volume"), "64k") as folder:
        yield folder


def opener(sealed: Path, count: int, seed: int, small: Path) -> "subprocess.Popen[str]":
    key = f"file:{sealed.parent / 'my.key'}"
    words = [str(word) for word in (sealed, key, MODEL, count, seed, small)]
    return subprocess.Popen(
        [sys.executable, "-m", "support.many_opens", *words],
        cwd=sealed.parent,
        env=environment(sealed.parent, PYTHONPATH=str(SUPPORT), TMPDIR=str(sealed.parent)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@for_root
def test_a_thousand_opens_with_faults_leave_no_plaintext_no_descriptor_and_no_memory(
    sealed: Path, canary: Canary, small: Path
) -> None:
    with opener(sealed, 1000, 7, small) as process:
        assert process.stdout is not None
        told: dict[str, Any] = json.loads(process.stdout.readline())
        content = [each for each in canary.needles if each.name != "file name"]
        search = places.search_memory(process.pid, content)
        files = places.search_open_files(process.pid, canary.needles)
    outcomes = told["outcomes"]
    assert told["after"] == told["before"]
    assert told["after"]["memfds"] == 0
    assert (search.found, files.found, search.unreadable) == ([], [], 0)
    assert {fault: set(results) for fault, results in outcomes.items()} == {
        "none": {"opened"},
        "short": {"opened"},
        "slow key": {"opened"},
        "eio": {"opened", "SourceUnavailable"},
        "shrunk": {"opened", "SourceChanged"},
        "flipped": {"SegmentInvalid", "KeyCommitmentMismatch"},
        "no key": {"KeyServiceUnavailable"},
        "enospc": {"OutOfMemory"},
    }
    assert sum(collections.Counter(outcomes[fault]).total() for fault in outcomes) == 1000
    assert not [path for path in small.rglob("*") if path.is_file()]


@for_root
def test_processes_that_are_killed_in_the_middle_leave_no_file(sealed: Path, small: Path) -> None:
    before = everything_below(sealed.parent)
    for seed in range(8):
        with opener(sealed, 100_000, seed, small) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2 + seed / 10)
            process.kill()
    assert everything_below(sealed.parent) == before
