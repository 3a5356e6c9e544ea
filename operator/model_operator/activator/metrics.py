"""The metrics of the activator, on their own registry."""

from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
_MODEL = ("namespace", "name")


class Outcome(StrEnum):
    """How a request ended; the label of its metric."""

    ANSWERED = "answered"  # by a pod of the model, whatever its answer was
    LIMITED = "limited"  # too many waited already
    TIMEOUT = "timeout"  # no pod became ready in time
    FAILED = "failed"  # the model cannot start
    GONE = "gone"  # its client went away
    BROKEN = "broken"  # the pod ended while it answered


class Metrics:
    """Counts requests by model; `forget` removes the series of one that is gone."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "modeldeploy_activator_requests_total",
            "Requests that reached the activator, by outcome: answered, limited, timeout, failed, gone, broken.",
            [*_MODEL, "outcome"],
            registry=self.registry,
        )
        self._held = Gauge(
            "modeldeploy_activator_held_requests",
            "Requests that wait for a ready pod.",
            _MODEL,
            registry=self.registry,
        )
        self._wake = Histogram(
            "modeldeploy_activator_wake_seconds",
            "Time from the first request to a model that sleeps until its first pod is ready.",
            _MODEL,
            buckets=_SECONDS,
            registry=self.registry,
        )

    def ended(self, namespace: str, name: str, outcome: Outcome) -> None:
        """Count a request that is over."""
        self._requests.labels(namespace, name, outcome).inc()

    def held(self, namespace: str, name: str, count: int) -> None:
        """Set the number of requests that wait."""
        self._held.labels(namespace, name).set(count)

    def woken(self, namespace: str, name: str, seconds: float) -> None:
        """Count a wake."""
        self._wake.labels(namespace, name).observe(seconds)

    def forget(self, namespace: str, name: str) -> None:
        """Remove the series of a model."""
        for outcome in Outcome:
            self._requests.remove(namespace, name, outcome)
        self._held.remove(namespace, name)
        self._wake.remove(namespace, name)

    def expose(self) -> bytes:
        """Return the metrics in the Prometheus text format."""
        return generate_latest(self.registry)
