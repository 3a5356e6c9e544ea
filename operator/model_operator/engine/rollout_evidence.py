"""Counters and provider results of one rollout, and the analysis state computed from them, for `metrics_collector`.

Counts are increases between two samples of the same process. A restarted, new or deleted pod contributes none until it
has two samples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from model_operator.api.analysis import AnalysisSpec
from model_operator.api.names import REVISION
from model_operator.api.resource import ModelDeployment
from model_operator.api.times import parse_time
from model_operator.engine.shadow_collector import ShadowCursor
from model_operator.observation.values import Traffic
from model_operator.policy.analysis import state
from model_operator.policy.analysis.metric_test import IntervalCounts
from model_operator.policy.analysis.state import AnalysisState
from model_operator.ports import PodSample
from model_operator.routers import router_for

Body = Mapping[str, Any]
PodSamples = Sequence[tuple[Body, PodSample]]


@dataclass(frozen=True, slots=True)
class _Step:
    """Two samples of one process. `is_warm`: it has been ready for the warm-up of the spec."""

    is_canary: bool
    before: PodSample
    after: PodSample
    is_warm: bool


@dataclass(slots=True)
class RolloutEvidence:
    """Evidence of one rollout.

    `marker` identifies the weight under which counting began. `interval` has the counts of the open interval, by
    metric; it began at `interval_start`. `samples` are the last samples, by the uids of the pods.
    """

    canary: str
    analysis: AnalysisState
    polled_at: datetime
    interval_start: datetime
    marker: object = None
    traffic: Traffic = field(default_factory=Traffic)
    interval: dict[str, IntervalCounts] = field(default_factory=dict)
    queried_at: datetime | None = None
    samples: dict[str, PodSample] = field(default_factory=dict)
    shadow: ShadowCursor = field(default_factory=ShadowCursor)

    @classmethod
    def resume(cls, resource: ModelDeployment, now: datetime) -> "RolloutEvidence":
        """Return the evidence of a running rollout; after a restart it is restored from the status."""
        analysis = state.from_status(resource.spec.analysis, resource.status.analysis)
        return cls(canary=resource.status.canary, analysis=analysis, polled_at=now, interval_start=now)

    def count(self, resource: ModelDeployment, found: PodSamples, now: datetime) -> bool:
        """Add the increases since the last samples; return whether there is new evidence to decide on."""
        spec, steps = resource.spec.analysis, self._steps(resource, found, now)
        self.samples, self.polled_at = {pod["metadata"]["uid"]: sample for pod, sample in found}, now
        marker = weight_marker(resource)
        if self.marker != marker:
            # The interval began under another weight: its counts are no evidence for this one.
            self.marker, self.traffic = marker, Traffic()
            return self._close(spec, now)
        has_traffic = self._count_traffic(resource, steps)
        self.analysis = state.calibrate(spec, self.analysis, _stable_durations(resource, found))
        for step in steps:
            if step.is_warm:
                self._add(state.count(spec, self.analysis, step.before, step.after, is_canary=step.is_canary))
        if now - self.interval_start >= spec.interval:
            return self._close(spec, now)
        return is_split_unverified(resource) and has_traffic

    def _steps(self, resource: ModelDeployment, found: PodSamples, now: datetime) -> Sequence[_Step]:
        return [
            _Step(
                is_canary=revision_of_pod(pod) == resource.status.canary,
                before=self.samples[uid],
                after=sample,
                is_warm=ready_for(pod, now) >= resource.spec.analysis.warmup,
            )
            for pod, sample in found
            if (uid := pod["metadata"]["uid"]) in self.samples and sample.requests >= self.samples[uid].requests
        ]

    def _count_traffic(self, resource: ModelDeployment, steps: Sequence[_Step]) -> bool:
        """Add the requests that the router split; return whether there were any."""
        # Users of an A/B test are assigned once each, independent of the number of their requests.
        counter: Callable[[PodSample], int] = _assigned if resource.spec.stickiness else _requests
        counts = [(step.is_canary, max(counter(step.after) - counter(step.before), 0)) for step in steps]
        self.traffic = Traffic(
            stable=self.traffic.stable + sum(n for is_canary, n in counts if not is_canary),
            canary=self.traffic.canary + sum(n for is_canary, n in counts if is_canary),
        )
        return any(n for _, n in counts)

    def _add(self, counted: Mapping[str, IntervalCounts]) -> None:
        for name, counts in counted.items():
            self.interval[name] = self.interval[name] + counts if name in self.interval else counts

    def _close(self, spec: AnalysisSpec, now: datetime) -> bool:
        counted = {name: counts for name, counts in self.interval.items() if state.has_counts(counts)}
        self.analysis = state.update(spec, self.analysis, counted)
        self.interval, self.interval_start = {}, now
        return bool(counted)


def is_split_unverified(resource: ModelDeployment) -> bool:
    """Whether the split by the gateway is still to be verified by counted requests; a split by pods is not."""
    weights, router = resource.status.weights, router_for(resource.spec.routing)
    return router.splits_requests and weights.programmed_at is not None and weights.verified is None


def weight_marker(resource: ModelDeployment) -> object:
    """Return an identifier of the current weight; None while none is programmed."""
    weights = resource.status.weights
    return (weights.applied, weights.programmed_at) if weights.programmed_at else None


def revision_of_pod(pod: Body) -> str:
    """Return the revision that a pod serves."""
    return str(pod["metadata"]["labels"].get(REVISION, ""))


def ready_for(pod: Body, now: datetime) -> timedelta:
    """Return how long a pod has been ready."""
    conditions = (pod.get("status") or {}).get("conditions", ())
    since = next((c.get("lastTransitionTime") for c in conditions if c["type"] == "Ready"), None)
    return now - parse_time(since) if since else timedelta.max


def _assigned(sample: PodSample) -> int:
    return sample.assigned


def _requests(sample: PodSample) -> int:
    return sample.requests


def _stable_durations(resource: ModelDeployment, found: PodSamples) -> Mapping[float, int]:
    """Return the histogram of the durations of all pods of stable."""
    total: dict[float, int] = {}
    for pod, sample in found:
        if revision_of_pod(pod) == resource.status.stable:
            for edge, count in sample.durations.items():
                total[edge] = total.get(edge, 0) + count
    return total
