"""Which performance hint serves more, found by a short measurement while the model is loaded.

One hint is compiled at a time: the weights that OpenVINO packs are dropped before the other hint
packs its own.
"""

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from modelseal.engine import LoadedModel

LATENCY: Final = "LATENCY"
THROUGHPUT: Final = "THROUGHPUT"
INLINE_SECONDS: Final = 0.0002
"""Inferences shorter than this cost less than being handed over to a thread and back."""
MEASURE_SECONDS: Final = 0.25
"""How long each hint is measured."""
LONGEST_LOAD_SECONDS: Final = 2.0
"""A model that takes longer to load is not loaded up to twice more only to be measured."""
LONGEST_INFERENCE_SECONDS: Final = 0.2
WORTH: Final = 1.1
"""So many times more must `THROUGHPUT` serve, because a lone request is slower with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A hint, why it is that one, and inferences per second by hint where they were measured."""

    hint: str
    why: str
    rates: Mapping[str, float] = field(default_factory=dict)


class Calibrated(NamedTuple):
    """A warm model with the chosen hint, and the fastest seconds of one inference."""

    model: LoadedModel
    fastest: float
    choice: Choice


def calibrate(load: Callable[[str], LoadedModel], *, threads: int) -> Calibrated:
    """Load with the hint that serves more; `load` takes a hint.

    Raises:
        ModelLoadFailed: OpenVINO does not take the model.
        DeviceUnavailable: no wanted device is there.

    """
    started = time.monotonic()
    loaded = load(LATENCY)
    fastest = loaded.warm_up()
    choice = unmeasured(threads=threads, fastest=fastest, loading=time.monotonic() - started)
    rates, hint = {}, LATENCY
    if choice is None:
        rates[LATENCY] = rate(loaded)
        loaded, hint = _instead(loaded, load, THROUGHPUT), THROUGHPUT
        rates[THROUGHPUT] = rate(loaded)
        choice = better(rates)
    if choice.hint != hint:
        loaded = _instead(loaded, load, choice.hint)
    return Calibrated(loaded, fastest, choice)


def unmeasured(*, threads: int, fastest: float, loading: float) -> Choice | None:
    """Return the hint of a model that needs no comparison, or whose comparison would take long."""
    if threads == 1:
        return Choice(hint=LATENCY, why="there is one processor")
    if math.isinf(fastest):
        return Choice(hint=LATENCY, why="the model takes no inputs of zeros to be measured with")
    if fastest < INLINE_SECONDS:
        return Choice(hint=LATENCY, why="an inference is shorter than its way to a worker")
    if fastest > LONGEST_INFERENCE_SECONDS or loading > LONGEST_LOAD_SECONDS:
        return Choice(hint=THROUGHPUT, why="the model takes too long to be measured")
    return None


def better(rates: Mapping[str, float]) -> Choice:
    """Return the hint that serves more; the one with shorter answers where it is about the same."""
    pays = rates[THROUGHPUT] >= WORTH * rates[LATENCY]
    told = ", ".join(f"{hint} {value:.3g}/s" for hint, value in rates.items())
    return Choice(hint=THROUGHPUT if pays else LATENCY, why=f"measured: {told}", rates=rates)


def rate(loaded: LoadedModel, seconds: float = MEASURE_SECONDS) -> float:
    """Return inferences per second with every infer request at work."""
    started = time.monotonic()
    with ThreadPoolExecutor(loaded.requests) as pool:
        counts = pool.map(lambda _: _count(loaded, started + seconds), range(loaded.requests))
        return sum(counts) / (time.monotonic() - started)


def _count(loaded: LoadedModel, until: float) -> int:
    count = 0
    while time.monotonic() < until:
        loaded.run_zeros()
        count += 1
    return count


def _instead(loaded: LoadedModel, load: Callable[[str], LoadedModel], hint: str) -> LoadedModel:
    loaded.close()  # first, so that the packed weights are never there twice
    other = load(hint)
    other.warm_up()
    return other
