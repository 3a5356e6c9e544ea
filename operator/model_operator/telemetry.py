"""The metrics of the operator, on their own registry."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from model_operator.api.resource import ObjectKey
from model_operator.api.times import parse_time
from model_operator.resource_states import ResourceStates, problem_of

log = logging.getLogger(__name__)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ROLLOUT_SECONDS = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)


class Telemetry:
    """Counts the work of the operator and exposes the state of each ModelDeployment."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reconciles = Counter(
            "modeldeploy_operator_reconciles_total",
            "Reconciles of ModelDeployments by result: ok, conflict, error, terminating (of its namespace), bug.",
            ["result"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "modeldeploy_operator_reconcile_duration_seconds",
            "Duration of one reconcile.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._requests = Counter(
            "modeldeploy_operator_api_requests_total",
            "Requests to the Kubernetes API by verb, kind and HTTP code.",
            ["verb", "kind", "code"],
            registry=self.registry,
        )
        self._rollouts = Counter(
            "modeldeploy_operator_rollouts_total",
            "Finished rollouts by result.",
            ["namespace", "name", "result"],
            registry=self.registry,
        )
        self._rollout_seconds = Histogram(
            "modeldeploy_operator_rollout_duration_seconds",
            "Duration of finished rollouts by result.",
            ["result"],
            buckets=_ROLLOUT_SECONDS,
            registry=self.registry,
        )
        self.leader = Gauge(
            "modeldeploy_operator_leader",
            "1 while this process is the leader.",
            registry=self.registry,
        )
        self._shown: dict[ObjectKey, Mapping[str, Any]] = {}
        #: Results with series for each resource, which are removed with it.
        self._results: dict[ObjectKey, set[str]] = {}
        self.registry.register(ResourceStates(self._shown))

    def reconciled(self, result: str, started: float) -> None:
        """Count a pass that began at `time.perf_counter() == started`."""
        self._reconciles.labels(result).inc()
        self._seconds.observe(time.perf_counter() - started)

    def requested(self, verb: str, kind: str, code: int) -> None:
        """Count a request to the Kubernetes API."""
        self._requests.labels(verb, kind, str(code)).inc()

    def observe(self, key: ObjectKey, body: Mapping[str, Any] | None) -> None:
        """Expose the state of a ModelDeployment; the series of a deleted one are removed."""
        before = self._shown.get(key)
        if body is None:
            self._shown.pop(key, None)
            for result in self._results.pop(key, ()):
                self._rollouts.remove(*key, result)
            return
        status = body.get("status") or {}
        if before == status:
            return
        if problem := problem_of(status):
            self._shown.pop(key, None)
            log.warning("%s/%s has no metrics: its status is not as the operator writes it: %s", *key, problem)
            return
        self._shown[key] = status
        if before is not None:
            self._count_rollouts(key, before, status)

    def expose(self, names: Sequence[str] = ()) -> bytes:
        """Return the metrics in the Prometheus text format: all of them, or those with the given names."""
        return generate_latest(self.registry.restricted_registry(names) if names else self.registry)

    def _count_rollouts(self, key: ObjectKey, before: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        recorded = {(entry["revision"], entry.get("at")) for entry in before.get("history", ())}
        for entry in status.get("history", ()):
            if (entry["revision"], entry.get("at")) in recorded:
                break
            self._rollouts.labels(*key, entry["result"]).inc()
            self._results.setdefault(key, set()).add(entry["result"])
            started, ended = before.get("rolloutStartedAt"), entry.get("at")
            if started and ended:
                took = parse_time(ended) - parse_time(started)
                # Others' times may be any: a sum that shrinks is that of a process that started again.
                self._rollout_seconds.labels(entry["result"]).observe(max(took.total_seconds(), 0.0))
