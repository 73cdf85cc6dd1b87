"""The choice between the performance hints."""

import math
import time
from typing import Any

import pytest

from modelseal_runtime import calibration
from modelseal_runtime.calibration import LATENCY, THROUGHPUT, better, calibrate, unmeasured


class Stage:
    """A pretended OpenVINO: how long an inference takes with each hint, and what is loaded."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = seconds
        self.loaded: list[str] = []
        self.history: list[str] = []

    def load(self, hint: str) -> Any:
        """Return a pretended model, of which there is one at a time."""
        assert not self.loaded, "two hints are loaded at the same time"
        self.loaded.append(hint)
        self.history.append(hint)
        return Pretended(self, hint)


class Pretended:
    """A pretended model."""

    requests = 2

    def __init__(self, stage: Stage, hint: str) -> None:
        self._stage = stage
        self.hint = hint

    def warm_up(self) -> float:
        """Return the fastest run's seconds."""
        return self._stage.seconds[self.hint]

    def run_zeros(self) -> None:
        """Take as long as an inference."""
        time.sleep(self._stage.seconds[self.hint])

    def close(self) -> None:
        """Let another be loaded."""
        self._stage.loaded.remove(self.hint)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration.rate, "__defaults__", (0.1,))


def test_the_hint_that_serves_more_is_taken_and_both_are_reported() -> None:
    stage = Stage(LATENCY=0.02, THROUGHPUT=0.005)
    found = calibrate(stage.load, threads=2)
    assert (found.choice.hint, stage.loaded, found.fastest) == (THROUGHPUT, [THROUGHPUT], 0.02)
    assert found.choice.rates[THROUGHPUT] > 2 * found.choice.rates[LATENCY]
    assert found.choice.why.startswith("measured: LATENCY ")
    assert "THROUGHPUT " in found.choice.why


def test_the_first_hint_is_loaded_again_where_the_other_serves_less() -> None:
    stage = Stage(LATENCY=0.005, THROUGHPUT=0.02)
    found = calibrate(stage.load, threads=2)
    assert (found.choice.hint, stage.loaded) == (LATENCY, [LATENCY])
    assert stage.history == [LATENCY, THROUGHPUT, LATENCY]


def test_a_gain_of_a_few_percent_does_not_pay_for_slower_single_answers() -> None:
    assert better({LATENCY: 100.0, THROUGHPUT: 105.0}).hint == LATENCY
    assert better({LATENCY: 100.0, THROUGHPUT: 115.0}).hint == THROUGHPUT


@pytest.mark.parametrize(
    ("threads", "fastest", "loading", "hint", "why"),
    [
        (1, 0.01, 0.1, LATENCY, "one processor"),
        (2, 0.0001, 0.1, LATENCY, "shorter than its way"),
        (2, math.inf, 0.1, LATENCY, "takes no inputs of zeros"),
        (2, 0.5, 0.1, THROUGHPUT, "too long to be measured"),
        (2, 0.01, 60.0, THROUGHPUT, "too long to be measured"),
    ],
)
def test_what_is_clear_or_would_take_long_is_not_measured(
    threads: int, fastest: float, loading: float, hint: str, why: str
) -> None:
    choice = unmeasured(threads=threads, fastest=fastest, loading=loading)
    assert choice is not None
    assert (choice.hint, why in choice.why, dict(choice.rates)) == (hint, True, {})


def test_a_model_that_takes_long_is_loaded_at_most_twice_and_never_measured() -> None:
    stage = Stage(LATENCY=1.0, THROUGHPUT=60.0)  # a measurement would take a minute
    found = calibrate(stage.load, threads=2)
    assert (found.choice.hint, stage.history) == (THROUGHPUT, [LATENCY, THROUGHPUT])
