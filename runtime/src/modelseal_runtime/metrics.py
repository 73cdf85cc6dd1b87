"""Prometheus metrics, in the spirit of those of other inference servers."""

from functools import partial
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from modelseal_runtime.protocol.failure import Kind
from modelseal_runtime.scheduler import Job, Scheduler
from modelseal_runtime.serving import Phase, Serving

_SECONDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
PROTOCOLS: Final = ("rest", "grpc")


class Metrics:
    """Every metric of the runtime, in a registry of its own."""

    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        labels = ("protocol",)
        requests = self._counter("requests", "Inference requests answered with a result", labels)
        seconds = self._histogram("request_seconds", "From request to answer", labels)
        received = self._counter("request_bytes", "Bytes of inference requests", labels)
        sent = self._counter("response_bytes", "Bytes of inference answers", labels)
        self._requests: Final = {one: requests.labels(one) for one in PROTOCOLS}
        self._seconds: Final = {one: seconds.labels(one) for one in PROTOCOLS}
        self._received: Final = {one: received.labels(one) for one in PROTOCOLS}
        self._sent: Final = {one: sent.labels(one) for one in PROTOCOLS}
        self._failures: Final = self._counter(
            "failures", "Inference requests answered with a failure", ("protocol", "reason")
        )
        self._queued: Final = self._histogram("queue_seconds", "Waiting for a worker", ())
        self._computed: Final = self._histogram("compute_seconds", "Parse, infer and encode", ())

    def success(self, protocol: str, *, seconds: float, received: int, sent: int) -> None:
        """Count an answered request."""
        self._requests[protocol].inc()
        self._seconds[protocol].observe(seconds)
        self._received[protocol].inc(received)
        self._sent[protocol].inc(sent)

    def failure(self, protocol: str, kind: Kind) -> None:
        """Count a request that was answered with a failure."""
        self._failures.labels(protocol, kind.label).inc()

    def observe(self, job: Job) -> None:
        """Count how long a job waited and ran."""
        self._queued.observe(job.waited)
        if job.took:
            self._computed.observe(job.took)

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
        self._gauge("model_ready", "Whether the model may be asked").set_function(
            lambda: serving.ready
        )
        state = self._gauge("model_state", "1 for the phase the runtime is in", ("state",))
        for phase in Phase:
            state.labels(phase.value).set_function(partial(_is_in, serving, phase))

    def loaded(self, *, model: str, version: str, digest: str, device: str, hint: str) -> None:
        """Describe the model that is served."""
        self._gauge(
            "model_info",
            "The model that is served",
            ("model", "version", "digest", "device", "hint"),
        ).labels(model, version, digest, device, hint).set(1)

    def render(self) -> bytes:
        """Return the text format of Prometheus."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"modelseal_inference_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: tuple[str, ...]) -> Histogram:
        return Histogram(
            f"modelseal_inference_{name}", text, labels, registry=self.registry, buckets=_SECONDS
        )

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"modelseal_{name}", text, labels, registry=self.registry)


def _is_in(serving: Serving, phase: Phase) -> bool:
    return serving.phase is phase
