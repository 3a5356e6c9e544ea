"""The metrics of a pool. Models beyond a number share one label, so that a list of any length cannot grow a scrape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from model_server.domain.model import Identity
from model_server.shared_values import SharedValues
from model_server.telemetry import LABELS

#: Fewer than those of one model's server: a thousand models have a thousand times as many series.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
LOAD_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
OTHER = "_other"
#: Failed models that a scrape names; all are counted.
MOST_FAILURES = 20


@dataclass(slots=True)
class Sums:
    """What has happened since the pool began, of all models; `misses` are requests that waited for a load."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    over_budget: int = 0
    process_ends: int = 0


class PoolTelemetry:
    """Counts what the pool does, for each model and in all."""

    def __init__(self, *, revision: str, most_models: int) -> None:
        # A second series for each, of which nobody asks.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        #: What is not of one model has no name of one.
        self.identity = Identity(model="", version="", revision=revision)
        #: For the limits of keys; a pool has one process that counts.
        self.values = SharedValues()
        self.sums = Sums()
        self._most = most_models
        self._named: dict[str, str] = {}
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "modeldeploy_requests", "Answered predictions by HTTP code.", (*LABELS, "code"), registry=registry
        )
        self._duration = Histogram(
            "modeldeploy_request_duration_seconds",
            "From the request's head to its answer.",
            LABELS,
            buckets=SECONDS,
            registry=registry,
        )
        self._explanations = Counter(
            "modeldeploy_explanations",
            "Answered requests for explanations by HTTP code.",
            (*LABELS, "code"),
            registry=registry,
        )
        self._explanation_duration = Histogram(
            "modeldeploy_explanation_duration_seconds",
            "From an explanation request's head to its answer.",
            buckets=SECONDS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "modeldeploy_requests_in_flight", "Requests that are being answered, of all models.", registry=registry
        )
        self._lookups = Counter(
            "modeldeploy_pool_lookups",
            "Requests by whether their model was in memory (`hit`), or had to be loaded first (`miss`).",
            ("result",),
            registry=registry,
        )
        for result in ("hit", "miss"):
            self._lookups.labels(result)
        self._refusals = Counter(
            "modeldeploy_pool_refusals",
            "Requests that were not given to a model, by reason.",
            ("model", "reason"),
            registry=registry,
        )
        self._loads = Counter(
            "modeldeploy_pool_loads", "Loads of a model, by outcome.", ("model", "outcome"), registry=registry
        )
        self._evictions = Counter(
            "modeldeploy_pool_evictions", "Models that were unloaded to make room.", ("model",), registry=registry
        )
        self._load_seconds = Histogram(
            "modeldeploy_pool_load_duration_seconds",
            "From the first request for a model that is not loaded until it is.",
            buckets=LOAD_SECONDS,
            registry=registry,
        )
        self._deaths = Counter(
            "modeldeploy_pool_process_ends",
            "Processes that ended unasked, by the models at work.",
            ("model",),
            registry=registry,
        )
        self._models = Gauge("modeldeploy_pool_models", "Models of the list, by state.", ("state",), registry=registry)
        self._failed = Gauge(
            "modeldeploy_pool_model_failed",
            f"1 for a model that cannot be loaded or was put aside; at most {MOST_FAILURES} of them.",
            ("model", "reason"),
            registry=registry,
        )
        self._bytes = Gauge(
            "modeldeploy_pool_memory_bytes", "Memory that the pool's processes hold.", registry=registry
        )
        self._budget = Gauge("modeldeploy_pool_memory_budget_bytes", "Memory that they may hold.", registry=registry)
        self._over = Counter(
            "modeldeploy_pool_over_budget",
            "Loads that found no room, and had to wait or were refused.",
            registry=registry,
        )
        self._fault = Gauge(
            "modeldeploy_pool_list_invalid",
            "1 while the newest list of models is wrong, and an older one is served.",
            registry=registry,
        )

    def _label(self, name: str) -> str:
        """The model's label: its own name for the first so many models that are asked for."""
        found = self._named.get(name)
        if found is None:
            found = self._named[name] = name if len(self._named) < self._most else OTHER
        return found

    def ready(self, is_ready: bool) -> None:
        """Part of what a server's telemetry does: a pool has no model whose readiness is counted."""

    def assigned(self) -> None:
        """Part of what a server's telemetry does: no A/B test leads to a pool."""

    def begin(self) -> None:
        """A request has come."""
        self._in_flight.inc()

    def end(self) -> None:
        """It is over, whatever became of it."""
        self._in_flight.dec()

    def answered(self, name: str, version: str, code: int, seconds: float, *, explains: bool = False) -> None:
        """A request for a model of the list was answered, or refused; one for explanations is counted apart."""
        label = self._label(name)
        labels = (label, "" if label == OTHER else version, self.identity.revision)
        if explains:
            self._explanations.labels(*labels, str(code)).inc()
            self._explanation_duration.observe(seconds)
            return
        self._requests.labels(*labels, str(code)).inc()
        self._duration.labels(*labels).observe(seconds)

    def looked_up(self, *, is_hit: bool) -> None:
        """A request has found its model in memory, or not."""
        self._lookups.labels("hit" if is_hit else "miss").inc()
        if is_hit:
            self.sums.hits += 1
        else:
            self.sums.misses += 1

    def refused(self, name: str, reason: str) -> None:
        """A request was refused before it reached a process."""
        self._refusals.labels(self._label(name), reason).inc()

    def loaded(self, name: str, outcome: str, seconds: float) -> None:
        """A load has ended."""
        self._loads.labels(self._label(name), outcome).inc()
        self._load_seconds.observe(seconds)

    def evicted(self, name: str) -> None:
        """A model was unloaded for another."""
        self._evictions.labels(self._label(name)).inc()
        self.sums.evictions += 1

    def process_ended(self, names: list[str]) -> None:
        """A process ended unasked while these models were computing; "" counts where none was."""
        self.sums.process_ends += 1
        for name in names or [""]:
            self._deaths.labels(self._label(name) if name else "").inc()

    def over_budget(self) -> None:
        """A load found no room."""
        self._over.inc()
        self.sums.over_budget += 1

    def observed(
        self,
        states: Mapping[str, int],
        failures: Sequence[tuple[str, str]],
        *,
        used: int,
        budget: int,
        is_list_wrong: bool,
    ) -> None:
        """The state of the pool at a tick; `failures` are names and reasons of models."""
        self._failed.clear()
        for name, reason in failures[:MOST_FAILURES]:
            self._failed.labels(name, reason).set(1)
        for state, count in states.items():
            self._models.labels(state).set(count)
        self._bytes.set(used)
        self._budget.set(budget)
        self._fault.set(is_list_wrong)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def render_openmetrics(self) -> bytes:
        """All metrics in the OpenMetrics format."""
        text: bytes = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]
        return text
