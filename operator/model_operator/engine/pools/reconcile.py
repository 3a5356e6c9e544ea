"""One reconcile of one ModelPool: render, apply what differs, write the status."""

import logging
from collections.abc import Mapping
from datetime import timedelta

from model_operator.api.json import Body
from model_operator.api.merge_patch import merge_patch
from model_operator.api.pool import POOL_KIND, ModelPool, PoolSample
from model_operator.api.resource import ObjectKey
from model_operator.engine.applier import is_owned
from model_operator.engine.batches.cache import OwnerCache
from model_operator.engine.events import EventRecorder
from model_operator.errors import ApiError, InvalidSpec, shortened
from model_operator.manifests.drift import needs_apply
from model_operator.manifests.pool import beside, pool_objects
from model_operator.manifests.strategic_merge import check_overlay
from model_operator.observation.pod_failures import deployment_problem, most_severe, pod_problem
from model_operator.observation.values import PodProblem
from model_operator.policy.admission import Admission
from model_operator.policy.pools import PoolEvent, events, invalid_status, pool_status
from model_operator.policy.status.invalid_spec import INTERNAL_ERROR, reason_of
from model_operator.ports import Clock, PoolCluster

log = logging.getLogger(__name__)

#: Fields of a Service that nobody else may add to.
_OWNED_FIELDS = {"Service": ("selector",)}

#: Kinds that a pool serves without, and statuses by which the API server refuses one of them for good: the kind is
#: missing, the operator has no right, the object is invalid or another's.
_BESIDE = frozenset({"PodDisruptionBudget", "ServiceMonitor"})
_REFUSED = frozenset({403, 404, 422})
#: What was refused is tried again: no watch tells that a definition was installed.
_AGAIN = timedelta(minutes=1)


class PoolReconciler:
    """Reconciles ModelPools one at a time."""

    def __init__(
        self,
        cluster: PoolCluster,
        cache: OwnerCache,
        recorder: EventRecorder,
        clock: Clock,
        admission: Admission,
        samples: Mapping[ObjectKey, tuple[PoolSample, ...]],
    ) -> None:
        self._cluster, self._cache, self._recorder = cluster, cache, recorder
        self._clock, self._admission, self._samples = clock, admission, samples

    async def reconcile(self, key: ObjectKey) -> timedelta | None:
        """Reconcile one pool; changes alone bring it back.

        Raises:
            ApiError: a write was rejected; the pass must be repeated.
        """
        body = self._cache.owner(key)
        if body is None or "deletionTimestamp" in body["metadata"]:
            return None
        try:
            pool = ModelPool.from_body(body)
            check_overlay(pool.spec.server.pod_template, "spec.server.podTemplate")
            wanted = pool_objects(pool, self._admission.settings)
            template = next(one for one in wanted if one["kind"] == "Deployment")["spec"]["template"]
            self._admission.check_pool(pool, template)
        except InvalidSpec as error:
            log.warning("%s/%s: %s", *key, error)
            await self._report_invalid(body, reason_of(error), str(error))
            return None
        for one in wanted:
            await self._apply(pool, one)
        refused = await self._apply_beside(pool)
        deployment = self._live("Deployment", key, pool.name)
        status = pool_status(
            pool,
            deployment,
            self._samples.get(key, ()),
            self._clock.now(),
            problem=self._problem(key, deployment),
            refused=refused,
        )
        patch = merge_patch(body.get("status") or {}, status)
        if patch:
            for draft in events(body.get("status") or {}, status):
                self._recorder.record_for(body, draft)
            await self._patch_status(body, patch)
        return _AGAIN if refused else None

    async def report_bug(self, key: ObjectKey, error: Exception) -> None:
        """Report an unexpected error of the operator in the status and by an Event."""
        body = self._cache.owner(key)
        if body is not None:
            message = f"{type(error).__name__}: {shortened(str(error))}; the operator tries again"
            await self._report_invalid(body, INTERNAL_ERROR, message)

    def _problem(self, key: ObjectKey, deployment: Body | None) -> PodProblem | None:
        """Return why pods do not serve, or why there are none."""
        pods = self._cache.owned("Pod", key)
        alive = (pod.get("status") or {} for pod in pods if "deletionTimestamp" not in pod["metadata"])
        found = most_severe(one for status in alive if (one := pod_problem(status)) is not None)
        return found or deployment_problem((deployment or {}).get("status") or {})

    def _live(self, kind: str, key: ObjectKey, name: str) -> Body | None:
        return next((one for one in self._cache.owned(kind, key) if one["metadata"]["name"] == name), None)

    async def _apply(self, pool: ModelPool, wanted: Body) -> None:
        kind, name = wanted["kind"], wanted["metadata"]["name"]
        live = self._live(kind, pool.key, name)
        if live is not None and not is_owned(live, pool.uid):
            # That of a pool of the same name which is gone: garbage collection deletes it.
            raise ApiError(409, "Conflict", f"the {kind} {name} of a deleted ModelPool is not yet gone")
        if not needs_apply(wanted, live, _OWNED_FIELDS.get(kind, ())):
            return
        try:
            answer = await (self._create(pool, wanted) if live is None else self._cluster.apply(wanted))
        except ApiError as error:
            if error.is_rejection and kind not in _BESIDE:
                body = self._cache.owner(pool.key)
                if body is not None:
                    await self._report_invalid(body, "ApplyFailed", f"{kind} {name} cannot be written: {error.message}")
            raise
        self._cache.upsert(dict(answer))

    async def _apply_beside(self, pool: ModelPool) -> str:
        """Write what the pool serves without, and delete what it no longer wants; return why one cannot be written."""
        wanted = beside(pool, self._admission.settings)
        kept = {one["kind"] for one in wanted}
        for kind in _BESIDE - kept:
            live = self._live(kind, pool.key, pool.name)
            if live is not None and is_owned(live, pool.uid):
                await self._cluster.delete(kind, pool.key, live["metadata"]["uid"])
        for one in wanted:
            try:
                await self._apply(pool, one)
            except ApiError as error:
                if error.status not in _REFUSED:
                    raise
                return f"{one['kind']} {pool.name} cannot be written: {error.message}"
        return ""

    async def _create(self, pool: ModelPool, wanted: Body) -> Body:
        try:
            return await self._cluster.apply_new(wanted)
        except ApiError as error:
            if not error.is_conflict:
                raise
        kind, name = wanted["kind"], wanted["metadata"]["name"]
        found = await self._cluster.find(kind, ObjectKey(pool.key.namespace, name))
        if found is not None and not is_owned(found, pool.uid):
            message = f"a {kind} of this name exists and has another owner; delete it, or rename the ModelPool"
            raise ApiError(422, "AlreadyExists", message)
        return await self._cluster.apply(wanted)

    async def _report_invalid(self, body: Body, reason: str, message: str) -> None:
        patch = merge_patch(body.get("status") or {}, invalid_status(body, reason, message, self._clock.now()))
        if patch:
            self._recorder.record_for(body, PoolEvent(reason, message, is_warning=True))
            await self._patch_status(body, patch)

    async def _patch_status(self, body: Body, patch: Body) -> None:
        metadata = body["metadata"]
        key = ObjectKey(metadata["namespace"], metadata["name"])
        version = metadata["resourceVersion"]
        answer = await self._cluster.merge(POOL_KIND, key, {"status": patch}, version, subresource="status")
        self._cache.upsert(dict(answer))
