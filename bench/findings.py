"""What a benchmark finds: rows that compare two sides, curves, and sentences."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much to measure."""

    rounds: int
    megabytes: int
    """Weights of the made model, in MiB, where the question is about a large one."""

    @property
    def sizes(self) -> tuple[int, int, int]:
        """A small, the usual and a large model, in MiB."""
        return self.megabytes // 8, self.megabytes, 4 * self.megabytes

    def rounds_of(self, megabytes: int) -> int:
        """Return fewer rounds for the large model, which is steadier and takes its time."""
        return max(3, self.rounds // 2) if megabytes > self.megabytes else self.rounds


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured comparison.

    `values` holds every round's figure of each side, in `unit`; the ratio compares the medians of
    `ours` and `baseline`, both of which are names of sides.
    """

    question: str
    unit: str
    values: Mapping[str, Sequence[float]]
    ours: str
    baseline: str | None
    """`None` where there is nothing to compare with, and the target is a number of `unit`."""
    target: str
    limit: str
    """What bounds the figure, in one sentence."""

    @property
    def medians(self) -> dict[str, float]:
        """The median of each side."""
        return {side: statistics.median(values) for side, values in self.values.items()}

    @property
    def ratio(self) -> float | None:
        """Ours divided by the baseline, by medians."""
        medians = self.medians
        return medians[self.ours] / medians[self.baseline] if self.baseline else None


@dataclass(frozen=True, kw_only=True)
class Curves:
    """One plot of lines: points of each named line, with what the axes mean."""

    name: str
    """Names the file; letters, digits and dashes."""
    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The answer to one question."""

    rows: Sequence[Row] = ()
    curves: Sequence[Curves] = ()
    notes: Sequence[str] = ()
    """Paragraphs of Markdown below the table."""


def interleaved(sides: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, list[float]]:
    """Run every side once in each round, in alternating order, after one unmeasured round.

    A noisy moment then hits both sides.
    """
    names = list(sides)
    for name in names:
        sides[name]()
    values: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            values[name].append(sides[name]())
    return values
