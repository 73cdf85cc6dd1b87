"""What the operator tells Prometheus; names and labels are bounded."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_PREFIX: Final = "modelseal_operator_"


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry()
        self.requests: Final = self._counter(
            "api_requests", "Requests to the API server", "method", "status"
        )
        self.reconciles: Final = self._counter("reconciles", "Reconciles by outcome", "result")
        self.reports: Final = self._counter("agent_reports", "Polls of agents by outcome", "result")
        self.depth: Final = self._gauge("queue_depth", "Models that wait for a worker")
        self.age: Final = self._gauge("queue_oldest_seconds", "How long the oldest has waited")
        self.lag: Final = self._gauge("loop_lag_seconds", "How late the event loop is")
        self.leader: Final = self._gauge("leader", "Whether this replica acts")
        self.models: Final = self._gauge("models", "EncryptedModels by state", "ready", "reason")
        self.seconds: Final = Histogram(
            f"{_PREFIX}reconcile_seconds", "Time of a reconcile", registry=self.registry
        )

    def count_request(self, method: str, status: str) -> None:
        """Count a request to the API server."""
        self.requests.labels(method, status).inc()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{_PREFIX}{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{_PREFIX}{name}", text, labels, registry=self.registry)
