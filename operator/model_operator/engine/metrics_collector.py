"""Collects the metrics of rollouts: counters of pods, values of metric providers, predictions of both revisions.

It reads the counters from `/metrics` of the pods while a rollout needs them, without a Prometheus server.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from typing import Any

from model_operator.api.resource import ModelDeployment, ObjectKey
from model_operator.engine import metric_queries
from model_operator.engine.cache import Cache
from model_operator.engine.concurrency import Poller, chosen
from model_operator.engine.poll_intervals import MAX_INTERVAL, may_poll, needs_all_pods, poll_interval
from model_operator.engine.queue import WorkQueue
from model_operator.engine.rollout_evidence import (
    PodSamples,
    RolloutEvidence,
    is_split_unverified,
    ready_for,
    revision_of_pod,
    weight_marker,
)
from model_operator.engine.shadow_collector import ShadowCollector
from model_operator.errors import ProviderError
from model_operator.manifests.pods import PORT, pod_url, protects_metrics
from model_operator.observation.idleness import Idleness, observed_again
from model_operator.observation.input_quality import merged, refreshed, with_unread
from model_operator.observation.observe import is_ready
from model_operator.observation.values import InputReport, ModelReport, Traffic, Verdict
from model_operator.policy.analysis import state
from model_operator.policy.analysis.metric_test import Pair, PairedTest, QueriedTest
from model_operator.policy.analysis.registry import metric_tests
from model_operator.ports import Clock, MetricValues, PodMetrics, PodSample, Predictions
from model_operator.turns import Turns

Body = Mapping[str, Any]
#: Seconds between two polls of the pods of a rollout.
INTERVAL = 2.0
#: Pods that are asked at once, of one namespace and of all.
_OF_ONE, _OF_ALL = 32, 128
#: Maximum number of intervals between two polls of a server that does not report its model.
_MAX_BACKOFF = 64


class MetricsCollector(Poller):
    """Polls pods and providers in the background, and provides what it has collected."""

    def __init__(
        self,
        cache: Cache,
        queue: WorkQueue,
        pods: PodMetrics,
        predictions: Predictions,
        values: MetricValues,
        clock: Clock,
    ) -> None:
        super().__init__(INTERVAL)
        self._cache, self._queue, self._clock = cache, queue, clock
        self._pods, self._values = pods, values
        self._models: dict[ObjectKey, dict[str, ModelReport]] = {}
        self._polled: dict[ObjectKey, datetime] = {}
        self._idleness: dict[ObjectKey, Idleness] = {}
        self._rollouts: dict[ObjectKey, RolloutEvidence] = {}
        self._turns = Turns(of_one=_OF_ONE, of_all=_OF_ALL)
        self._shadow = ShadowCollector(cache, predictions, self._turns)
        #: Polls of a model whose server has not reported it, and the revisions that were asked, answered or not.
        self._unanswered: dict[ObjectKey, int] = {}
        self._asked: dict[ObjectKey, frozenset[str]] = {}

    def models(self, key: ObjectKey) -> Mapping[str, ModelReport]:
        """Return the models that the servers reported, by revision."""
        return self._models.get(key, {})

    def asked(self, key: ObjectKey) -> Set[str]:
        """Return the revisions of which a server was asked for its model, whether it answered or not."""
        return self._asked.get(key, frozenset())

    def ask(self, key: ObjectKey) -> None:
        """Poll one resource now, not only at the next interval."""
        self._tasks.start([key], self._poll_one)

    def idle_since(self, key: ObjectKey) -> datetime | None:
        """Return the time of the last request that the pods of a model counted; None before the first look."""
        idleness = self._idleness.get(key)
        return idleness.since if idleness else None

    def traffic(self, resource: ModelDeployment) -> Traffic | None:
        """Return the requests counted since the applied weight was programmed; None without samples."""
        rollout = self._rollouts.get(resource.key)
        marker = weight_marker(resource)
        return rollout.traffic if rollout and marker and rollout.marker == marker else None

    def verdict(self, resource: ModelDeployment) -> Verdict:
        """Return the verdict on the canary."""
        rollout = self._rollouts.get(resource.key)
        if rollout is None or rollout.canary != resource.status.canary:
            return Verdict()
        return state.verdict(resource.spec.analysis, rollout.analysis)

    def _start_due(self) -> None:
        """Read the pods of every rollout, and one pod of every revision whose model is not reported yet."""
        keys = list(self._cache)
        self._tasks.cancel_except(keys)
        tables: tuple[dict[ObjectKey, Any], ...] = (
            self._models,
            self._asked,
            self._unanswered,
            self._rollouts,
            self._polled,
            self._idleness,
        )
        for table in tables:
            for key in table.keys() - set(keys):
                del table[key]
        self._tasks.start(chosen(keys, self._is_interesting), self._poll_one)

    def _is_interesting(self, key: ObjectKey) -> bool:
        body = self._cache.resource(key) or {}
        status = body.get("status") or {}
        if status.get("canaryRevision"):
            return True
        self._rollouts.pop(key, None)
        if self._has_to_poll(key, body):
            return True
        if status.get("readyReplicas", 0) == 0 or status.get("stableRevision") in self._models.get(key, {}):
            self._unanswered.pop(key, None)
            return False
        count = self._unanswered.get(key, 0)
        self._unanswered[key] = count + 1
        # Read in the 1st, 2nd, 4th, 8th ... poll, then in every 64th.
        return count & (count + 1) == 0 if count < _MAX_BACKOFF else count % _MAX_BACKOFF == 0

    def _has_to_poll(self, key: ObjectKey, body: Body) -> bool:
        """Whether to read the servers again: for source, broker, requests, trust in the estimate, or idleness."""
        if not may_poll(body.get("spec", {})):
            return False
        resource, now = self._cache.get_valid(key), self._clock.now()
        interval = poll_interval(resource) if resource else None
        if interval is None or (key in self._polled and now - self._polled[key] < interval):
            return False
        self._polled[key] = now
        return True

    async def _poll_one(self, key: ObjectKey) -> None:
        resource = self._cache.get_valid(key)
        if resource is None or not self._is_due(resource):
            return
        status = resource.status
        pods = [pod for pod in self._cache.pods(key) if is_ready(pod)]
        pods = [pod for pod in pods if revision_of_pod(pod) in (status.stable, status.canary)]
        if not status.canary and not needs_all_pods(resource):
            pods = pods[:1]
        samples = await asyncio.gather(*(self._read(key, pod) for pod in pods))
        found = [(pod, sample) for pod, sample in zip(pods, samples, strict=True) if sample is not None]
        is_new = self._update_models(key, found, asked=Counter(map(revision_of_pod, pods)))
        is_new |= self._update_asked(resource, pods)
        is_new |= self._update_idleness(resource, pods, found)
        if status.canary:
            rollout = self._rollout(resource)
            is_new |= rollout.count(resource, found, self._clock.now())
            is_new |= await self._query(resource, rollout)
            is_new |= await self._compare(resource, rollout, pods)
        if is_new:
            self._queue.add(key)

    async def _read(self, key: ObjectKey, pod: Body) -> PodSample | None:
        url = pod_url(pod, PORT)
        if not url:
            return None
        async with self._turns.of(key.namespace):
            return await self._pods.read(url, key if protects_metrics(pod) else None)

    def _update_models(self, key: ObjectKey, found: PodSamples, *, asked: Mapping[str, int]) -> bool:
        models = self._models.setdefault(key, {})
        # A pod that has seen the change knows more than one whose next poll is to come.
        changed = {
            revision_of_pod(pod): sample.changed_fingerprint for pod, sample in found if sample.changed_fingerprint
        }
        reports = {
            revision: ModelReport(
                model=sample.model,
                changed_fingerprint=changed.get(revision, ""),
                source_problem=sample.source_problem,
                stream=sample.stream,
                inputs=_inputs(revision, models.get(revision), found, asked=asked[revision]),
                estimate=sample.estimate,
            )
            for pod, sample in found
            if sample.model is not None and (revision := revision_of_pod(pod))
        }
        fresh = {revision: report for revision, report in reports.items() if models.get(revision) != report}
        models.update(fresh)
        return bool(fresh)

    def _update_asked(self, resource: ModelDeployment, pods: Sequence[Body]) -> bool:
        """Note which revisions were asked; return whether one of them was not asked before."""
        before, now = self.asked(resource.key), frozenset(map(revision_of_pod, pods))
        alive = {resource.status.stable, resource.status.canary}
        self._asked[resource.key] = now | (before & alive)
        return bool(now - before)

    def _update_idleness(self, resource: ModelDeployment, pods: Sequence[Body], found: PodSamples) -> bool:
        """Note which pods of a model that may sleep have answered requests; return whether this is the first look."""
        scaling, last = resource.spec.autoscaling, self._idleness.get(resource.key)
        if scaling is None or scaling.idle_after is None:
            self._idleness.pop(resource.key, None)
            return False
        if not pods:
            return False
        counts: dict[str, int | None] = {pod["metadata"]["uid"]: None for pod in pods}
        counts |= {pod["metadata"]["uid"]: _answered(sample) for pod, sample in found}
        self._idleness[resource.key] = observed_again(last, counts, self._clock.now())
        return last is None

    def _is_due(self, resource: ModelDeployment) -> bool:
        """Whether to poll a rollout: once in its interval, and always until its split is verified."""
        rollout = self._rollouts.get(resource.key)
        if not resource.status.canary or rollout is None or is_split_unverified(resource):
            return True
        return self._clock.now() - rollout.polled_at >= min(resource.spec.analysis.interval, MAX_INTERVAL)

    def _rollout(self, resource: ModelDeployment) -> RolloutEvidence:
        """Return the evidence of the current rollout."""
        evidence = self._rollouts.get(resource.key)
        if evidence is None or evidence.canary != resource.status.canary:
            evidence = RolloutEvidence.resume(resource, self._clock.now())
            self._rollouts[resource.key] = evidence
        return evidence

    async def _query(self, resource: ModelDeployment, rollout: RolloutEvidence) -> bool:
        """Query the metric providers, once in an interval; return whether there are any."""
        spec, status, now = resource.spec.analysis, resource.status, self._clock.now()
        tests = [test for test in metric_tests(spec) if isinstance(test, QueriedTest)]
        queried = [(test, queries) for test in tests if (queries := test.queries(status.canary, status.stable))]
        if not queried or (rollout.queried_at and now - rollout.queried_at < spec.interval):
            return False
        rollout.queried_at = now
        answers = await asyncio.gather(
            *(metric_queries.fetch(self._values, resource, queries, now) for _, queries in queried)
        )
        for (test, _), answer in zip(queried, answers, strict=True):
            rollout.analysis = state.apply_answer(rollout.analysis, test, answer, now)
        return True

    async def _compare(self, resource: ModelDeployment, rollout: RolloutEvidence, pods: Sequence[Body]) -> bool:
        """Compare the answers of canary and stable to the same requests; return whether there is new evidence."""
        spec, now = resource.spec.analysis, self._clock.now()
        tests = [test for test in metric_tests(spec) if isinstance(test, PairedTest)]
        if not tests:
            return False
        warm = [pod for pod in pods if ready_for(pod, now) >= spec.warmup]
        interval = min(spec.interval, MAX_INTERVAL)
        answer: Sequence[Pair] | ProviderError
        try:
            answer = await self._shadow.pairs_since(rollout.shadow, resource, warm, interval)
        except ProviderError as error:
            answer = error
        before = rollout.analysis
        for test in tests:
            rollout.analysis = state.apply_pairs(rollout.analysis, test, answer, now)
        return rollout.analysis != before


def _inputs(revision: str, last: ModelReport | None, found: PodSamples, *, asked: int) -> InputReport | None:
    """Return what the pods of a revision find in their requests, `asked` being the number of pods that were read."""
    samples = [sample.inputs for pod, sample in found if revision_of_pod(pod) == revision]
    before, after = last.inputs if last else None, merged(samples)
    return refreshed(before, after if len(samples) == asked else with_unread(before, after))


def _answered(sample: PodSample) -> int | None:
    """Return how many requests of any kind a pod has answered; None while it answers one."""
    return None if sample.in_flight else sample.requests + (sample.refusals or 0) + sample.explanations
