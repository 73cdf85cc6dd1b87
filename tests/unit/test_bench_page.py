"""docs/performance.md says what was measured, and nothing else."""

import json
import shutil
from pathlib import Path

import pytest
from bench import page
from bench.__main__ import QUESTIONS
from bench.findings import Row, interleaved

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs/performance"


def test_the_page_is_what_the_kept_findings_make(tmp_path: Path) -> None:
    copy = tmp_path / "performance"
    copy.mkdir()
    for path in FOLDER.glob("*.json"):
        shutil.copy(path, copy)
    page.write(copy, QUESTIONS)
    assert (tmp_path / "performance.md").read_text() == FOLDER.with_suffix(".md").read_text()
    assert {path.name for path in copy.glob("*.svg")} <= {path.name for path in FOLDER.iterdir()}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_findings_name_their_machine_and_have_a_question(path: Path) -> None:
    found = json.loads(path.read_text())
    assert path.stem in QUESTIONS
    assert {"processor", "cores", "memory", "kernel", "python"} <= set(found["machine"])
    assert found["rows"] or found["curves"]


def test_a_ratio_is_of_medians() -> None:
    row = Row(
        question="q",
        unit="s",
        values={"ours": [1.0, 9.0, 3.0], "theirs": [2.0, 2.0, 100.0]},
        ours="ours",
        baseline="theirs",
        target="none",
        limit="nothing",
    )
    assert row.ratio == 1.5


def test_rounds_are_interleaved_in_alternating_order_after_an_unmeasured_one() -> None:
    order: list[str] = []

    def side(name: str) -> float:
        order.append(name)
        return float(len(order))

    values = interleaved({"a": lambda: side("a"), "b": lambda: side("b")}, rounds=2)
    assert "".join(order) == "ababba"
    assert values == {"a": [3.0, 6.0], "b": [4.0, 5.0]}
