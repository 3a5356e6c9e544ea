"""What the pods' own counters say: read from their `/metrics` while a rollout needs it.

No Prometheus is needed. Counts are increases between two looks at the same process; a restarted or
new pod begins anew, a vanished one ends: neither is a negative count, and neither is evidence.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from model_operator.api.analysis import AnalysisSpec, Kind
from model_operator.api.json import Body
from model_operator.api.names import REVISION
from model_operator.api.resource import ModelDeployment, ObjectKey
from model_operator.api.times import parse_time
from model_operator.engine.cache import Cache
from model_operator.engine.concurrency import each
from model_operator.engine.metric_queries import ask, provided_metrics
from model_operator.engine.queue import WorkQueue
from model_operator.engine.shadow_collector import Mirror, MirrorReader
from model_operator.errors import ProviderError
from model_operator.manifests.pods import PORT, pod_url
from model_operator.observation.observe import is_ready
from model_operator.observation.values import ModelReport, Traffic, Verdict
from model_operator.policy.analysis.counter_deltas import add, has_counts, increases, with_thresholds
from model_operator.policy.analysis.provider_results import hear, hear_pairs
from model_operator.policy.analysis.shadow_test import Pair
from model_operator.policy.analysis.state import AnalysisState, Seen, learn_all, remembered, verdict
from model_operator.ports import Clock, MetricValues, PodMetrics, PodSample, Predictions

log = logging.getLogger(__name__)

Found = Sequence[tuple[Body, PodSample]]
#: Seconds between two looks at the pods of a rollout.
INTERVAL = 2.0
#: Counters of a pod that leaves are lost since the last look at it.
_LONGEST_LOOK = timedelta(seconds=15)
_AT_ONCE = 32
#: A server that does not tell its model is asked less and less often, up to this many intervals.
_RAREST = 64


@dataclass(slots=True)
class _Rollout:
    """What was counted in one rollout. `marker` names the weight in force when counting began.

    `open` is the interval that is not closed yet, by metric; it began at `edge`.
    """

    canary: str
    knowledge: AnalysisState
    looked_at: datetime
    edge: datetime
    marker: object = None
    traffic: Traffic = field(default_factory=Traffic)
    open: dict[str, Seen] = field(default_factory=dict)
    measured_at: datetime | None = None
    last: dict[str, PodSample] = field(default_factory=dict)
    mirror: Mirror = field(default_factory=Mirror)


class Evidence:
    """Reads pods in the background, and answers from what it read."""

    def __init__(
        self,
        cache: Cache,
        queue: WorkQueue,
        pods: PodMetrics,
        predictions: Predictions,
        values: MetricValues,
        clock: Clock,
    ) -> None:
        self._cache, self._queue, self._clock = cache, queue, clock
        self._pods, self._values = pods, values
        self._models: dict[ObjectKey, dict[str, ModelReport]] = {}
        self._polled: dict[ObjectKey, datetime] = {}
        self._rollouts: dict[ObjectKey, _Rollout] = {}
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self._mirrors = MirrorReader(cache, predictions, self._limit)
        self._asked: dict[ObjectKey, int] = {}

    def models(self, key: ObjectKey) -> Mapping[str, ModelReport]:
        """Return what the servers said of their models, by revision."""
        return self._models.get(key, {})

    def traffic(self, resource: ModelDeployment) -> Traffic | None:
        """Return the requests counted since the applied weight was programmed; None when none were looked at."""
        rollout = self._rollouts.get(resource.key)
        marker = _marker(resource)
        return rollout.traffic if rollout and marker and rollout.marker == marker else None

    def verdict(self, resource: ModelDeployment) -> Verdict:
        """Return the judge's word on the canary."""
        rollout = self._rollouts.get(resource.key)
        if rollout is None or rollout.canary != resource.status.canary:
            return Verdict()
        return verdict(resource.spec.analysis, rollout.knowledge)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL)

    async def look(self) -> None:
        """Read the pods of every rollout, and one pod of every revision whose model is not known yet."""
        keys = list(self._cache)
        for key in {*self._models, *self._rollouts, *self._asked, *self._polled}.difference(keys):
            for memory in (self._models, self._rollouts, self._asked, self._polled):
                memory.pop(key, None)
        await each([key for key in keys if self._is_interesting(key)], self._look_at)

    def _is_interesting(self, key: ObjectKey) -> bool:
        body = self._cache.resource(key) or {}
        status = body.get("status") or {}
        if status.get("canaryRevision"):
            return True
        self._rollouts.pop(key, None)
        if self._has_to_poll(key, body):
            return True
        if status.get("readyReplicas", 0) == 0 or status.get("stableRevision") in self._models.get(key, {}):
            self._asked.pop(key, None)
            return False
        asked = self._asked.get(key, 0)
        self._asked[key] = asked + 1
        # Asked at the 1st, 2nd, 4th, 8th ... look, then at every 64th.
        return asked & (asked + 1) == 0 if asked < _RAREST else asked % _RAREST == 0

    def _has_to_poll(self, key: ObjectKey, body: Body) -> bool:
        """Whether it is time to ask the server again if its source has changed (`spec.model.pollInterval`)."""
        if "pollInterval" not in body.get("spec", {}).get("model", {}):
            return False
        resource, now = self._cache.get_valid(key), self._clock.now()
        interval = resource.spec.model.poll_interval if resource else None
        if interval is None or (key in self._polled and now - self._polled[key] < interval):
            return False
        self._polled[key] = now
        return True

    async def _look_at(self, key: ObjectKey) -> None:
        resource = self._cache.get_valid(key)
        if resource is None or not self._is_due(resource):
            return
        status = resource.status
        pods = [pod for pod in self._cache.pods(key) if is_ready(pod)]
        pods = [pod for pod in pods if _revision(pod) in (status.stable, status.canary)]
        if not status.canary:
            pods = pods[:1]
        samples = await asyncio.gather(*(self._read(pod) for pod in pods))
        found = [(pod, sample) for pod, sample in zip(pods, samples, strict=True) if sample is not None]
        is_new = self._learn_models(key, found)
        if status.canary:
            is_new |= self._count(resource, found)
            is_new |= await self._measure(resource)
            is_new |= await self._compare(resource, pods)
        if is_new:
            self._queue.add(key)

    async def _read(self, pod: Body) -> PodSample | None:
        url = pod_url(pod, PORT)
        if not url:
            return None
        async with self._limit:
            return await self._pods.read(url)

    def _learn_models(self, key: ObjectKey, found: Found) -> bool:
        known = self._models.setdefault(key, {})
        news = {
            _revision(pod): ModelReport(model=sample.model, changed_fingerprint=sample.changed_fingerprint)
            for pod, sample in found
            if sample.model is not None
        }
        fresh = {revision: report for revision, report in news.items() if known.get(revision) != report}
        known.update(fresh)
        return bool(fresh)

    def _is_due(self, resource: ModelDeployment) -> bool:
        """A rollout is looked at once in its interval, and at every look until its split is verified."""
        rollout = self._rollouts.get(resource.key)
        if not resource.status.canary or rollout is None or _waits_for_proof(resource):
            return True
        return self._clock.now() - rollout.looked_at >= min(resource.spec.analysis.interval, _LONGEST_LOOK)

    def _count(self, resource: ModelDeployment, found: Found) -> bool:
        """Add the increases since the last look; return whether there is something new to decide on."""
        spec, now = resource.spec.analysis, self._clock.now()
        rollout = self._rollout(resource, now)
        steps = [
            (_revision(pod) == resource.status.canary, rollout.last[uid], sample, _age(pod, now) >= spec.warmup)
            for pod, sample in found
            if (uid := pod["metadata"]["uid"]) in rollout.last and sample.requests >= rollout.last[uid].requests
        ]
        rollout.last, rollout.looked_at = {pod["metadata"]["uid"]: sample for pod, sample in found}, now
        marker = _marker(resource)
        if rollout.marker != marker:
            # The interval began under another weight: what it counted says nothing of this one.
            rollout.marker, rollout.traffic = marker, Traffic()
            return self._close(spec, rollout, now)
        # Users of an A/B test are split once each, however many requests they send.
        counted: Callable[[PodSample], int] = _users if resource.spec.stickiness else _requests
        requests = [(is_canary, max(counted(after) - counted(before), 0)) for is_canary, before, after, _ in steps]
        rollout.traffic = Traffic(
            stable=rollout.traffic.stable + sum(n for is_canary, n in requests if not is_canary),
            canary=rollout.traffic.canary + sum(n for is_canary, n in requests if is_canary),
        )
        rollout.knowledge = with_thresholds(spec, rollout.knowledge, _stable_durations(resource, found))
        for is_canary, before, after, is_warm in steps:
            if is_warm:
                _add(rollout, increases(spec, rollout.knowledge, before, after, is_canary=is_canary))
        if now - rollout.edge >= spec.interval:
            return self._close(spec, rollout, now)
        return _waits_for_proof(resource) and any(n for _, n in requests)

    async def _measure(self, resource: ModelDeployment) -> bool:
        """Ask for the guards' values, once in an interval; return whether there are any."""
        spec, rollout, now = resource.spec.analysis, self._rollouts[resource.key], self._clock.now()
        asked = provided_metrics(spec)
        if not asked or (rollout.measured_at and now - rollout.measured_at < spec.interval):
            return False
        rollout.measured_at = now
        answers = await asyncio.gather(*(ask(self._values, resource, metric, now) for metric in asked))
        for metric, answer in zip(asked, answers, strict=True):
            rollout.knowledge = hear(rollout.knowledge, metric, answer, now)
        return True

    async def _compare(self, resource: ModelDeployment, pods: Sequence[Body]) -> bool:
        """Compare what canary and stable answered to the same requests; return whether that says anything new."""
        spec, rollout, now = resource.spec.analysis, self._rollouts[resource.key], self._clock.now()
        metrics = [metric for metric in spec.metrics if metric.kind is Kind.MIRRORED]
        if not metrics:
            return False
        warm = [pod for pod in pods if _age(pod, now) >= spec.warmup]
        interval = min(spec.interval, _LONGEST_LOOK)
        answer: Sequence[Pair] | ProviderError
        try:
            answer = await self._mirrors.pairs_since(rollout.mirror, resource, warm, interval)
        except ProviderError as error:
            answer = error
        before = rollout.knowledge
        for metric in metrics:
            rollout.knowledge = hear_pairs(rollout.knowledge, metric, answer, now)
        return rollout.knowledge != before

    def _rollout(self, resource: ModelDeployment, now: datetime) -> _Rollout:
        """Return what is known of the rollout; after a restart that is what status remembers."""
        known = self._rollouts.get(resource.key)
        if known is None or known.canary != resource.status.canary:
            knowledge = remembered(resource.spec.analysis, resource.status.analysis)
            known = _Rollout(canary=resource.status.canary, knowledge=knowledge, looked_at=now, edge=now)
            self._rollouts[resource.key] = known
        return known

    def _close(self, spec: AnalysisSpec, rollout: _Rollout, now: datetime) -> bool:
        counted = {name: seen for name, seen in rollout.open.items() if has_counts(seen)}
        rollout.knowledge = learn_all(spec, rollout.knowledge, counted)
        rollout.open, rollout.edge = {}, now
        return bool(counted)


def _users(sample: PodSample) -> int:
    return sample.assigned


def _requests(sample: PodSample) -> int:
    return sample.requests


def _add(rollout: _Rollout, counted: Mapping[str, Seen]) -> None:
    for name, seen in counted.items():
        rollout.open[name] = add(rollout.open[name], seen) if name in rollout.open else seen


def _stable_durations(resource: ModelDeployment, found: Found) -> Mapping[float, int]:
    """Return the histogram of all that stable's pods have answered."""
    total: dict[float, int] = {}
    for pod, sample in found:
        if _revision(pod) == resource.status.stable:
            for edge, count in sample.durations.items():
                total[edge] = total.get(edge, 0) + count
    return total


def _age(pod: Body, now: datetime) -> timedelta:
    """Return how long a pod has been ready."""
    conditions = (pod.get("status") or {}).get("conditions", ())
    since = next((c.get("lastTransitionTime") for c in conditions if c["type"] == "Ready"), None)
    return now - parse_time(since) if since else timedelta.max


def _waits_for_proof(resource: ModelDeployment) -> bool:
    """Whether counted requests have yet to show that the gateway splits as it was told; pods need no such proof."""
    weights = resource.status.weights
    return resource.spec.gateway is not None and weights.programmed_at is not None and weights.verified is None


def _marker(resource: ModelDeployment) -> object:
    weights = resource.status.weights
    return (weights.applied, weights.programmed_at) if weights.programmed_at else None


def _revision(pod: Body) -> str:
    return str(pod["metadata"]["labels"].get(REVISION, ""))
