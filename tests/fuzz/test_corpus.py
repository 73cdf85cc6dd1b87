"""Every input that fuzzing ever found worth keeping keeps the parsers' promises."""

import json
from pathlib import Path

import pytest

from fuzz.corpus import inputs
from fuzz.targets import TARGETS

EXECUTIONS = Path(__file__).with_name("executions.json")


@pytest.mark.parametrize("name", TARGETS)
def test_every_kept_input_is_refused_by_name_or_has_one_meaning(name: str) -> None:
    outcomes = [TARGETS[name](data) for data in inputs(name)]
    assert set(outcomes) == {True, False}, "a target that accepts all or nothing checks nothing"


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_of_other_parsers_are_refused_or_have_one_meaning_too(name: str) -> None:
    for other in TARGETS:
        for data in inputs(other)[:50]:
            TARGETS[name](data)


def test_a_recorded_campaign_covers_every_target() -> None:
    recorded = json.loads(EXECUTIONS.read_text())
    assert set(recorded["targets"]) == set(TARGETS)
    counted = [each["executions"] for each in recorded["targets"].values()]
    assert min(counted) >= 500_000
    assert recorded["total"] == sum(counted) >= 10_000_000
