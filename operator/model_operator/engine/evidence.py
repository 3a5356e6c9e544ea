"""What the pods' own counters say: read from their `/metrics` while a rollout needs it.

No Prometheus is needed. Counts are increases between two looks at the same process; a restarted or
new pod begins anew, a vanished one ends: neither is a negative count, and neither is evidence.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model_operator.api.names import REVISION
from model_operator.api.resource import ModelDeployment, ObjectKey
from model_operator.api.status import ModelInfo
from model_operator.engine.cache import Cache
from model_operator.engine.observe import is_ready
from model_operator.engine.queue import WorkQueue
from model_operator.manifests.pods import PORT
from model_operator.policy.judge import Counts, judge, learn
from model_operator.policy.judge import Evidence as Knowledge
from model_operator.policy.observed import Traffic, Verdict
from model_operator.ports import PodMetrics, PodSample

log = logging.getLogger(__name__)

Body = Mapping[str, Any]
Found = Sequence[tuple[Body, PodSample]]
#: Seconds between two looks at the pods of a rollout.
INTERVAL = 2.0
_AT_ONCE = 32
#: A server that does not tell its model is asked less and less often, up to this many intervals.
_RAREST = 64


@dataclass(slots=True)
class _Rollout:
    """What was counted in one rollout. `marker` names the weight in force when counting began."""

    canary: str
    marker: object = None
    traffic: Traffic = field(default_factory=Traffic)
    knowledge: Knowledge = field(default_factory=Knowledge)
    last: dict[str, tuple[int, int]] = field(default_factory=dict)


class Evidence:
    """Reads pods in the background, and answers from what it read."""

    def __init__(self, cache: Cache, queue: WorkQueue, pods: PodMetrics) -> None:
        self._cache, self._queue, self._pods = cache, queue, pods
        self._models: dict[ObjectKey, dict[str, ModelInfo]] = {}
        self._rollouts: dict[ObjectKey, _Rollout] = {}
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self._asked: dict[ObjectKey, int] = {}

    def models(self, key: ObjectKey) -> Mapping[str, ModelInfo]:
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
        return judge(rollout.knowledge)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL)

    async def look(self) -> None:
        """Read the pods of every rollout, and one pod of every revision whose model is not known yet."""
        keys = list(self._cache)
        for key in {*self._models, *self._rollouts, *self._asked}.difference(keys):
            for memory in (self._models, self._rollouts, self._asked):
                memory.pop(key, None)
        await asyncio.gather(*(self._look_at(key) for key in keys if self._is_interesting(key)))

    def _is_interesting(self, key: ObjectKey) -> bool:
        status = (self._cache.resource(key) or {}).get("status") or {}
        if status.get("canaryRevision"):
            return True
        self._rollouts.pop(key, None)
        if status.get("readyReplicas", 0) == 0 or status.get("stableRevision") in self._models.get(key, {}):
            self._asked.pop(key, None)
            return False
        asked = self._asked.get(key, 0)
        self._asked[key] = asked + 1
        # Asked at the 1st, 2nd, 4th, 8th ... look, then at every 64th.
        return asked & (asked + 1) == 0 if asked < _RAREST else asked % _RAREST == 0

    async def _look_at(self, key: ObjectKey) -> None:
        body = self._cache.resource(key)
        if body is None:
            return
        resource = ModelDeployment.from_body(body)
        status = resource.status
        pods = [
            pod
            for (kind, _), pod in self._cache.children(key).items()
            if kind == "Pod" and is_ready(pod) and _revision(pod) in (status.stable, status.canary)
        ]
        if not status.canary:
            pods = pods[:1]
        samples = await asyncio.gather(*(self._read(pod) for pod in pods))
        found = [(pod, sample) for pod, sample in zip(pods, samples, strict=True) if sample is not None]
        if self._learn_models(key, found) or (status.canary and self._count(resource, found)):
            self._queue.wake(key)

    async def _read(self, pod: Body) -> PodSample | None:
        address = (pod.get("status") or {}).get("podIP")
        if not address:
            return None
        async with self._limit:
            return await self._pods.read(address, PORT)

    def _learn_models(self, key: ObjectKey, found: Found) -> bool:
        known = self._models.setdefault(key, {})
        news = {_revision(pod): sample.model for pod, sample in found if sample.model is not None}
        fresh = {revision: model for revision, model in news.items() if known.get(revision) != model}
        known.update(fresh)
        return bool(fresh)

    def _count(self, resource: ModelDeployment, found: Found) -> bool:
        """Add the increases of one interval; return whether anything was counted."""
        status, key = resource.status, resource.key
        rollout = self._rollouts.get(key)
        if rollout is None or rollout.canary != status.canary:
            rollout = self._rollouts[key] = _Rollout(canary=status.canary)
        increases = {status.stable: [0, 0], status.canary: [0, 0]}
        now: dict[str, tuple[int, int]] = {}
        for pod, sample in found:
            uid = pod["metadata"]["uid"]
            now[uid] = (sample.requests, sample.errors)
            before = rollout.last.get(uid, now[uid])
            if sample.requests >= before[0]:
                increases[_revision(pod)][0] += sample.requests - before[0]
                increases[_revision(pod)][1] += max(0, sample.errors - before[1])
        rollout.last = now
        counts = Counts(
            canary=increases[status.canary][0],
            canary_bad=increases[status.canary][1],
            stable=increases[status.stable][0],
            stable_bad=increases[status.stable][1],
        )
        marker = _marker(resource)
        if rollout.marker != marker:
            # The interval began under another weight: what it counted says nothing of this one.
            rollout.marker, rollout.traffic = marker, Traffic()
        else:
            rollout.traffic = Traffic(
                stable=rollout.traffic.stable + counts.stable, canary=rollout.traffic.canary + counts.canary
            )
            rollout.knowledge = learn(rollout.knowledge, counts)
        return counts.canary + counts.stable > 0


def _marker(resource: ModelDeployment) -> object:
    weights = resource.status.weights
    return (weights.applied, weights.programmed_at) if weights.programmed_at else None


def _revision(pod: Body) -> str:
    return str(pod["metadata"]["labels"][REVISION])
