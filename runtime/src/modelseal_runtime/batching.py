"""Requests that wait at the same moment, run as one inference.

Only for models whose every input and output has a first dimension that varies, and only where the
user says so: that rows do not concern each other is something that only the model's owner knows,
and a batch may round differently from a single row.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from modelseal.engine import Array
from modelseal.errors import ServingError
from modelseal_runtime.logs import log
from modelseal_runtime.protocol.query import Query
from modelseal_runtime.serving import Served

Outcome = tuple[Any, BaseException | None]
Outputs = Mapping[str, Array]


class Inference:
    """One request in three steps, so that the middle one can be shared."""

    __slots__ = ("encode", "parse", "served")

    def __init__(
        self,
        served: Served,
        parse: Callable[[], Query],
        encode: Callable[[Query, Outputs], Any],
    ) -> None:
        self.served: Final = served
        self.parse: Final = parse
        self.encode: Final = encode

    def __call__(self) -> Any:
        """Run all of it alone."""
        return self.run(self.parse())

    def run(self, query: Query) -> Any:
        """Run what was parsed alone."""
        return self.served.model.run(query.inputs, lambda outputs: self.encode(query, outputs))


@dataclass(frozen=True, kw_only=True, slots=True)
class Batching:
    """How many rows run together at most, and how many seconds the first may wait for others."""

    rows: int
    seconds: float


def batching_of(served: Served, *, rows: int, seconds: float) -> Batching | None:
    """Return how to batch, or `None` where the user did not ask or the model cannot take it."""
    if rows < 2:
        return None
    if not served.model.takes_batches:
        log(
            logging.WARNING,
            "requests are not batched",
            why="an input or output has no first dimension that varies, or the model keeps a state",
        )
        return None
    return Batching(rows=rows, seconds=seconds)


@dataclass(kw_only=True, slots=True)
class _Member:
    """One request of a batch."""

    place: int
    work: Inference
    query: Query
    arrays: Sequence[Array]

    @property
    def rows(self) -> int:
        return int(self.arrays[0].shape[0])

    @property
    def kind(self) -> tuple[tuple[int, ...], ...]:
        return tuple(array.shape[1:] for array in self.arrays)


def run_together(works: Sequence[Inference], rows: int) -> list[Outcome]:
    """Run requests in as few inferences as `rows` allows; each has an outcome of its own."""
    outcomes: list[Outcome] = [(None, None)] * len(works)
    members = []
    for place, work in enumerate(works):
        try:
            query = work.parse()
            arrays = work.served.model.fitting(query.inputs)
            members.append(_Member(place=place, work=work, query=query, arrays=arrays))
        except Exception as error:  # concerns this request alone
            outcomes[place] = (None, error)
    for group in _groups(members, rows):
        _run_group(group, outcomes)
    return outcomes


def _groups(members: Sequence[_Member], rows: int) -> Iterator[list[_Member]]:
    """Put together what has the same shapes but for the first dimension, in order."""
    open_groups: dict[Any, list[_Member]] = {}
    for member in members:
        group = open_groups.setdefault(member.kind, [])
        if group and sum(one.rows for one in group) + member.rows > rows:
            yield group
            group = open_groups[member.kind] = []
        group.append(member)
    yield from open_groups.values()


def _run_group(group: Sequence[_Member], outcomes: list[Outcome]) -> None:
    if len(group) > 1:
        try:
            _run_joined(group, outcomes)
            return
        except ServingError:  # one of them is to blame, and only that one shall hear of it
            pass
    for member in group:
        outcomes[member.place] = _outcome(member, member.work.run, member.query)


def _run_joined(group: Sequence[_Member], outcomes: list[Outcome]) -> None:
    model = group[0].work.served.model
    joined = {
        spec.name: np.concatenate([member.arrays[index] for member in group])
        for index, spec in enumerate(model.inputs)
    }
    total = sum(member.rows for member in group)

    def share(outputs: Outputs) -> None:
        if any(array.shape[0] != total for array in outputs.values()):
            raise ServingError("failed to share a batch: an output has other rows than the inputs")
        first = 0
        for member in group:
            last = first + member.rows
            own = {name: array[first:last] for name, array in outputs.items()}
            outcomes[member.place] = _outcome(member, member.work.encode, member.query, own)
            first = last

    model.run(joined, share)


def _outcome(member: _Member, action: Callable[..., Any], *arguments: Any) -> Outcome:
    try:
        return action(*arguments), None
    except Exception as error:  # concerns this request alone
        return None, error
