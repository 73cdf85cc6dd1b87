"""Side-by-side measurement: rounds are interleaved, so that a noisy moment hits both sides."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured question.

    `values` holds every round's figure of each side, in `unit`; `ratio` compares the medians of
    `ours` and `baseline` (named in `sides`), and `target` says what it should be.
    """

    question: str
    unit: str
    values: Mapping[str, list[float]]
    ours: str
    baseline: str
    target: str
    limit: str
    """What bounds the figure, in one sentence."""
    extra: Mapping[str, float] = field(default_factory=dict)

    @property
    def medians(self) -> dict[str, float]:
        """The median of each side."""
        return {side: statistics.median(values) for side, values in self.values.items()}

    @property
    def ratio(self) -> float:
        """Ours divided by the baseline, by medians."""
        return self.medians[self.ours] / self.medians[self.baseline]


def interleaved(sides: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, list[float]]:
    """Run every side once in each round, in alternating order, after one unmeasured round."""
    names = list(sides)
    for name in names:
        sides[name]()
    values: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            values[name].append(sides[name]())
    return values


def seconds(action: Callable[[], object]) -> float:
    """Return how long `action` takes, in seconds of wall time."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
