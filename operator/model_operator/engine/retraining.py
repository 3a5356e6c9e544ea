"""Detects that live models have degraded, and calls the webhook that trains them again, or creates its Job."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from model_operator.api.estimate import EstimatedMetric, pooled
from model_operator.api.json import Body
from model_operator.api.names import REVISION
from model_operator.api.resource import ModelDeployment, ObjectKey
from model_operator.api.status import Retraining
from model_operator.api.sums import SumStats
from model_operator.api.times import format_time
from model_operator.engine.cache import Cache
from model_operator.engine.concurrency import Poller, chosen
from model_operator.engine.queue import WorkQueue
from model_operator.errors import ApiError, NotAllowed, ProviderError
from model_operator.manifests.pods import PORT, pod_url, protects_metrics
from model_operator.manifests.retraining import retraining_job
from model_operator.observation.observe import is_ready
from model_operator.observation.values import RetrainView
from model_operator.policy.admission import Admission
from model_operator.policy.rollout.retraining import RetrainingSignals, cause, learn
from model_operator.ports import Clock, Cluster, PodMetrics, PodSample, Webhooks

#: Seconds between two polls.
INTERVAL = 5.0
#: Time between two reads of the pods of a live model, and before a failed call of the webhook is repeated.
LOOK_EVERY = timedelta(minutes=1)


@dataclass(slots=True)
class _Model:
    """State of one live revision."""

    revision: str
    signs: RetrainingSignals = field(default_factory=RetrainingSignals)
    last: dict[str, PodSample] = field(default_factory=dict)
    polled_at: datetime | None = None
    tried_at: datetime | None = None
    notified: datetime | None = None
    problem: str = ""


class Retrainer(Poller):
    """Gathers the signals of degradation, and sends the requests to train."""

    def __init__(
        self,
        cache: Cache,
        queue: WorkQueue,
        cluster: Cluster,
        pods: PodMetrics,
        hooks: Webhooks,
        clock: Clock,
        admission: Admission,
    ) -> None:
        super().__init__(INTERVAL)
        self._cache, self._queue, self._clock, self._admission = cache, queue, clock, admission
        self._cluster, self._pods, self._hooks = cluster, pods, hooks
        self._models: dict[ObjectKey, _Model] = {}

    def view(self, resource: ModelDeployment) -> RetrainView:
        """Return why the live model should be trained again, if it should, and which request was accepted."""
        state, hook = self._models.get(resource.key), resource.spec.hooks.retrain
        if state is None or hook is None or state.revision != resource.status.stable:
            return RetrainView()
        return RetrainView(cause=cause(hook, state.signs), notified=state.notified, problem=state.problem)

    def _start_due(self) -> None:
        """Start what is due for every resource with such a hook."""
        with_hook = chosen(self._cache, self._has_hook)
        for key in self._models.keys() - set(with_hook):
            del self._models[key]
        self._tasks.cancel_except(with_hook)
        self._tasks.start(with_hook, self._look_at)

    def _has_hook(self, key: ObjectKey) -> bool:
        spec = (self._cache.resource(key) or {}).get("spec", {})
        return "retrain" in (spec.get("hooks") or {})

    async def _look_at(self, key: ObjectKey) -> None:
        resource = self._cache.get_valid(key)
        if resource is None:
            return
        state, now = self._models.get(key), self._clock.now()
        if state is None or state.revision != resource.status.stable:
            self._models[key] = state = _Model(revision=resource.status.stable)
        is_new = await self._send(resource, state, now)
        if not resource.status.canary and _is_due(state.polled_at, now):
            state.polled_at = now
            await self._read(resource, state)
            is_new |= bool(self.view(resource).cause)
        if is_new:
            self._queue.add(key)

    async def _send(self, resource: ModelDeployment, state: _Model, now: datetime) -> bool:
        """Send the request in the status to the hook; return whether its result changed."""
        request, hook = resource.status.retraining, resource.spec.hooks.retrain
        if request is None or hook is None or request.notified_at or not _is_due(state.tried_at, now):
            return False
        if hook.job_template is not None and not request.job:
            return False  # the hook has just become a Job, and status does not name it yet
        state.tried_at = now
        try:
            if hook.job_template is not None:
                await self._start(resource, request, hook.job_template)
            else:
                await self._hooks.notify(hook.address, resource.key.namespace, _notice(resource, request))
        except (ApiError, NotAllowed, ProviderError) as error:
            state.problem = str(error)
            return state.problem != request.problem
        state.notified, state.problem = request.requested_at, ""
        return True

    async def _start(self, resource: ModelDeployment, request: Retraining, template: Body) -> None:
        """Create the Job unless it exists: its template may have changed meanwhile, and that of a Job is immutable.

        Raises:
            ApiError: the API server rejects it.
            NotAllowed: a policy refuses the template as it is now, which need not be the one that asked for the Job.
        """
        if ("Job", request.job) not in self._cache.children(resource.key):
            self._admission.check(resource)
            self._cache.upsert(dict(await self._cluster.apply(retraining_job(resource, request, template))))

    async def _read(self, resource: ModelDeployment, state: _Model) -> None:
        pods = [
            pod
            for (kind, _), pod in self._cache.children(resource.key).items()
            if kind == "Pod" and is_ready(pod) and pod["metadata"]["labels"].get(REVISION) == state.revision
        ]
        tokens = [resource.key if protects_metrics(pod) else None for pod in pods]
        samples = await asyncio.gather(
            *(self._pods.read(pod_url(pod, PORT), token_of) for pod, token_of in zip(pods, tokens, strict=True))
        )
        found = {
            pod["metadata"]["uid"]: sample for pod, sample in zip(pods, samples, strict=True) if sample is not None
        }
        drifted = {feature for sample in found.values() for feature in sample.drifted}
        state.signs = learn(state.signs, drifted, _labels_since(state.last, found), _estimated(found.values()))
        state.last = found


def _notice(resource: ModelDeployment, request: Retraining) -> Body:
    return {
        "namespace": resource.key.namespace,
        "name": resource.name,
        "revision": request.revision,
        "reason": request.reason,
        "requestedAt": format_time(request.requested_at),
    }


def _estimated(samples: Iterable[PodSample]) -> Mapping[str, EstimatedMetric]:
    """Return the estimates of the pods that trust theirs, put together by metric."""
    trusted = [sample.estimated for sample in samples if sample.estimate == ""]
    names = {name for estimated in trusted for name in estimated}
    return {name: pooled([estimated[name] for estimated in trusted if name in estimated]) for name in sorted(names)}


def _labels_since(last: Mapping[str, PodSample], found: Mapping[str, PodSample]) -> Mapping[str, SumStats]:
    """Return the counts of the same processes since the last poll, by metric; a restarted process starts at zero."""
    more: dict[str, SumStats] = {}
    for uid in found.keys() & last.keys():
        for name, now in found[uid].quality.items():
            increase = now - last[uid].quality.get(name, SumStats())
            if increase.count > 0:
                more[name] = more.get(name, SumStats()) + increase
    return more


def _is_due(last: datetime | None, now: datetime) -> bool:
    return last is None or now - last >= LOOK_EVERY
