"""Nothing of a model, and no key, is anywhere but where it must be."""

from pathlib import Path

import pytest

from modelseal.cli import leakcheck
from modelseal.cli.leaks.drive import Life
from support.cli import environment, spawn

pytestmark = pytest.mark.e2e


@pytest.mark.negative(33)
def test_no_place_holds_a_canary_or_a_key(tmp_path: Path) -> None:
    result = spawn("leakcheck", "--json", env=environment(tmp_path), timeout=280)
    report = {each["place"]: each for each in result.json}
    assert result.code == 0, result.json
    assert all(each["proven"] for each in report.values())
    verdicts = {place: each["verdict"] for place, each in report.items() if each["promised"]}
    assert verdicts == {
        "files, crashes included": "clean",
        "open files": "clean",
        "environments, command lines": "clean",
        "logs, errors, answers": "clean",
        "runtime's memory": "clean",
        "command's memory": "clean",
        "swap": "clean",
    }
    assert report["environments, command lines"]["read"] == 3 * 3 * 2
    assert report["logs, errors, answers"]["read"] > 30
    assert report["runtime's memory"]["read"] > 100
    assert list(tmp_path.rglob("*")) == []


def test_a_program_that_leaked_would_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaky(life: Life, sealed: Path) -> None:
        weights = life.canary.xml.with_suffix(".bin").read_bytes()
        (life.folder / "tmp/model.cache").write_bytes(bytes(77) + weights[:4096])
        life.texts.append(("log", f"opening {life.canary.xml.name}".encode()))
        monkeypatch.setenv("PATH", f"{life.canary.xml.parent}:{life.canary.xml}")

    monkeypatch.setattr(Life, "be_refused", leaky)
    report = {each.place: each for each in leakcheck.check(tmp_path)}
    leaked = {place for place, each in report.items() if each.verdict == "LEAK"}
    assert leaked >= {
        "files, crashes included",
        "logs, errors, answers",
        "environments, command lines",
        "command's memory",
    }
    assert any(
        found == f"weights: {tmp_path / 'tmp/model.cache'}"
        for found in report["files, crashes included"].found
    )
