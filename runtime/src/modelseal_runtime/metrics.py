"""Prometheus metrics, in the spirit of those of other inference servers.

What is counted per request is a plain number that only the event loop changes: the client
library's own counters take a lock for each change, which is measurable beside a short inference.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from modelseal_runtime.budget import Budget
from modelseal_runtime.protocol.failure import Kind
from modelseal_runtime.scheduler import Job, Scheduler
from modelseal_runtime.serving import Phase, Served, Serving

_SECONDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
_SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
PROTOCOLS: Final = ("rest", "grpc")
_PREFIX: Final = "modelseal_inference_"


class Tally:
    """A histogram that one thread fills."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds: Final = bounds
        self._counts: Final = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self._counts)

    @property
    def sum(self) -> float:
        """Their sum."""
        return self._sum

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Add what was counted to what is shown."""
        total, buckets = 0, []
        for bound, count in zip([*map(str, self._bounds), "+Inf"], self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric(labels, buckets, self._sum)


class Totals(NamedTuple):
    """Sums since the start; times are seconds, `last` is seconds since 1970."""

    requests: int
    failures: int
    executions: int
    seconds: float
    queued: float
    computed: float
    last: float


class Metrics:
    """Every metric of the runtime, in a registry of its own."""

    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._answered: Final = {one: Tally(_SECONDS) for one in PROTOCOLS}
        self._counted: Final = {one: Counter[str]() for one in PROTOCOLS}
        self._failures: Final[Counter[tuple[str, str]]] = Counter()
        self._queued: Final = Tally(_SECONDS)
        self._computed: Final = Tally(_SECONDS)
        self._batches: Final = Tally(_SIZES)
        self._last = 0.0
        self.registry.register(self)

    def success(self, protocol: str, *, seconds: float, received: int, sent: int) -> None:
        """Count an answered request."""
        self._answered[protocol].observe(seconds)
        counted = self._counted[protocol]
        counted["requests"] += 1
        self._last = time.time()
        counted["received"] += received
        counted["sent"] += sent

    def failure(self, protocol: str, kind: Kind) -> None:
        """Count a request that was answered with a failure."""
        self._failures[protocol, kind.label] += 1

    def observe(self, job: Job) -> None:
        """Count how long a job waited and ran, and with how many others."""
        self._queued.observe(job.waited)
        if job.took:
            self._computed.observe(job.took)
            self._batches.observe(job.together)

    def follow(self, serving: Serving, scheduler: Scheduler) -> None:
        """Expose what is read at the time of a scrape."""
        self._gauge("in_flight", "Inference requests that wait or run").set_function(
            lambda: scheduler.unfinished
        )
        self._gauge("queue_length", "Inference requests that wait for a worker").set_function(
            lambda: scheduler.waiting
        )
        self._gauge("workers", "Inference requests that run at a time").set_function(
            lambda: scheduler.workers
        )
        self._gauge("lease_seconds_left", "Until the model is unloaded").set_function(
            serving.lease.left
        )
        self._gauge("lease_age_seconds", "Since the agent last renewed the lease").set_function(
            serving.lease.age
        )
        self._gauge("model_ready", "Whether the model may be asked").set_function(
            lambda: serving.ready
        )
        state = self._gauge("model_state", "1 for the phase the runtime is in", ("state",))
        for phase in Phase:
            state.labels(phase.value).set_function(partial(_is_in, serving, phase))

    def follow_budget(self, budget: Budget, unread: Callable[[], int]) -> None:
        """Expose what requests and unread answers hold at the time of a scrape."""
        self._gauge("request_memory_left_bytes", "What requests may still hold").set_function(
            lambda: budget.left
        )
        self._gauge("unread_answer_bytes", "Answers that clients have not read yet").set_function(
            unread
        )

    def loaded(self, served: Served, seconds: float) -> None:
        """Describe the model that is served, and the devices that do not serve it."""
        identity, model = served.identity, served.model
        self._gauge(
            "model_info",
            "The model that is served",
            ("model", "version", "digest", "device", "hint"),
        ).labels(
            identity.name, identity.version, served.digest, model.device, served.choice.hint
        ).set(1)
        measured = self._gauge(
            "hint_inferences_per_second", "What each hint reached while loading", ("hint",)
        )
        for hint, rate in served.choice.rates.items():
            measured.labels(hint).set(rate)
        refused = self._gauge(
            "device_refused", "A wanted device that does not serve, and why", ("device", "why")
        )
        for refusal in model.refused:
            refused.labels(refusal.device, refusal.why).set(1)
        self._gauge("load_seconds", "From delivery to ready").set(seconds)

    def totals(self) -> Totals:
        """Return the sums over both protocols."""
        return Totals(
            requests=sum(counted["requests"] for counted in self._counted.values()),
            failures=sum(self._failures.values()),
            executions=self._computed.count,
            seconds=sum(tally.sum for tally in self._answered.values()),
            queued=self._queued.sum,
            computed=self._computed.sum,
            last=self._last,
        )

    def render(self) -> bytes:
        """Return the text format of Prometheus."""
        return generate_latest(self.registry)

    def collect(self) -> Iterable[Metric]:
        """Yield what was counted per request; the registry calls this."""
        yield from self._counters()
        yield from self._histograms()

    def describe(self) -> Iterable[Metric]:
        """Yield nothing: names are known when they are collected."""
        return ()

    def _counters(self) -> Iterator[Metric]:
        texts = {
            "requests": ("requests", "Inference requests answered with a result"),
            "received": ("request_bytes", "Bytes of inference requests"),
            "sent": ("response_bytes", "Bytes of inference answers"),
        }
        for key, (name, text) in texts.items():
            family = CounterMetricFamily(_PREFIX + name, text, labels=("protocol",))
            for protocol, counted in self._counted.items():
                family.add_metric((protocol,), counted[key])
            yield family
        failures = CounterMetricFamily(
            f"{_PREFIX}failures",
            "Inference requests answered with a failure",
            labels=("protocol", "reason"),
        )
        for labels, count in tuple(self._failures.items()):
            failures.add_metric(labels, count)
        yield failures

    def _histograms(self) -> Iterator[Metric]:
        seconds = HistogramMetricFamily(
            f"{_PREFIX}request_seconds", "From request to answer", labels=("protocol",)
        )
        for protocol, tally in self._answered.items():
            tally.add_to(seconds, (protocol,))
        yield seconds
        for name, text, tally in (
            ("queue_seconds", "Waiting for a worker", self._queued),
            ("compute_seconds", "Parse, infer and encode", self._computed),
            ("batch_size", "Requests that ran in one inference", self._batches),
        ):
            family = HistogramMetricFamily(_PREFIX + name, text)
            tally.add_to(family, ())
            yield family

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"modelseal_{name}", text, labels, registry=self.registry)


def _is_in(serving: Serving, phase: Phase) -> bool:
    return serving.phase is phase
