"""One reconcile of one ModelBatch: observe, decide, write the status, act."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from model_operator.api.batch import APPLY_FAILED, BATCH_KIND, ModelBatch, ShardProgress
from model_operator.api.json import Body
from model_operator.api.merge_patch import merge_patch
from model_operator.api.resource import ObjectKey
from model_operator.engine.applier import is_owned
from model_operator.engine.batches.cache import OwnerCache
from model_operator.engine.events import EventRecorder
from model_operator.errors import ApiError, InvalidSpec, shortened
from model_operator.manifests.batch import batch_job
from model_operator.manifests.pod_policy import check_template
from model_operator.manifests.strategic_merge import check_overlay
from model_operator.observation.batches import view_of
from model_operator.policy.admission import Admission
from model_operator.policy.batch_runs import plan_runs
from model_operator.policy.batches import (
    BatchEvent,
    Resolution,
    events,
    invalid_status,
    job_status,
    pending_status,
    resolve,
)
from model_operator.policy.status.invalid_spec import INTERNAL_ERROR, reason_of
from model_operator.ports import BatchCluster, Clock

log = logging.getLogger(__name__)

#: The ModelDeployment of a key, and its objects by kind and name.
FindModel = Callable[[ObjectKey], tuple[Body | None, Mapping[tuple[str, str], Body]]]


class BatchReconciler:
    """Reconciles ModelBatches one at a time. `waiting` has the batches that wait for a ModelDeployment, by its key."""

    def __init__(
        self,
        cluster: BatchCluster,
        cache: OwnerCache,
        find_model: FindModel,
        recorder: EventRecorder,
        clock: Clock,
        admission: Admission,
        progress: Mapping[ObjectKey, Mapping[str, ShardProgress]],
        enqueue: Callable[[ObjectKey], None],
    ) -> None:
        self._cluster, self._cache, self._find_model = cluster, cache, find_model
        self._recorder, self._clock, self._admission, self._progress = recorder, clock, admission, progress
        self._enqueue = enqueue
        self.waiting: dict[ObjectKey, set[ObjectKey]] = {}

    async def reconcile(self, key: ObjectKey) -> timedelta | None:
        """Reconcile one batch; return the longest time until its next pass, None without a limit.

        Raises:
            ApiError: a write was rejected; the pass must be repeated.
        """
        self._stop_waiting(key)
        body = self._cache.owner(key)
        if body is None or "deletionTimestamp" in body["metadata"]:
            return None
        try:
            batch = ModelBatch.from_body(body)
            check_overlay(batch.spec.server.pod_template, "spec.server.podTemplate")
            return await (self._schedule(batch) if batch.spec.schedule else self._run(batch))
        except InvalidSpec as error:
            log.warning("%s/%s: %s", *key, error)
            await self._report_invalid(body, reason_of(error), str(error))
            return None

    async def report_bug(self, key: ObjectKey, error: Exception) -> None:
        """Report an unexpected error of the operator in the status and by an Event."""
        body = self._cache.owner(key)
        if body is not None:
            await self._report_invalid(
                body, INTERNAL_ERROR, f"{type(error).__name__}: {shortened(str(error))}; the operator tries again"
            )

    async def _run(self, batch: ModelBatch) -> timedelta | None:
        job = next((one for one in self._cache.owned("Job", batch.key) if one["metadata"]["name"] == batch.name), None)
        if job is not None and not is_owned(job, batch.uid):
            # That of a batch of the same name which is gone: garbage collection deletes it.
            return timedelta(seconds=1)
        if job is not None:
            view = view_of(job, self._cache.owned("Pod", batch.key), self._progress.get(batch.key, {}))
            await self._write(batch, job_status(batch, view, self._clock.now()))
            await self._adjust(batch, job)
            return None
        if batch.status.is_over:
            return None
        return await self._begin(batch)

    async def _begin(self, batch: ModelBatch) -> timedelta | None:
        resolution = self._resolve(batch)
        if resolution.source is None:
            await self._write(batch, pending_status(batch, resolution, self._clock.now()))
            return None
        body = batch_job(batch, resolution.pinned.revision, resolution.source, self._admission.settings)
        check_template(batch.key.namespace, body["spec"]["template"], self._admission.settings, self._admission.pods)
        # Before the Job, so that one that is lost is made again with the same revision. A rejection stays told until
        # the Job is there: it would come and go with each try.
        if not batch.status.is_rejected(batch.generation):
            await self._write(batch, pending_status(batch, resolution, self._clock.now()))
        try:
            await self._create_job(batch, body)
        except ApiError as error:
            await self._report_rejection(batch, f"Job {batch.name}", error)
            raise
        return timedelta(0)

    async def _create_job(self, batch: ModelBatch, body: Body) -> None:
        try:
            self._cache.upsert(dict(await self._cluster.apply_new(body)))
        except ApiError as error:
            if not error.is_conflict:
                raise
            found = await self._cluster.find("Job", batch.key)
            if found is not None and not is_owned(found, batch.uid):
                message = f"a Job {batch.name} exists and has another owner; delete it, or rename the ModelBatch"
                raise ApiError(422, "AlreadyExists", message) from error
            if found is not None:
                self._cache.upsert(dict(found))

    def _resolve(self, batch: ModelBatch) -> Resolution:
        name = batch.spec.model.name
        if name is None:
            return resolve(batch, None, {})
        key = ObjectKey(batch.key.namespace, name)
        self.waiting.setdefault(key, set()).add(batch.key)
        return resolve(batch, *self._find_model(key))

    async def _adjust(self, batch: ModelBatch, job: Body) -> None:
        """Write what may change while a Job goes on: whether it is suspended, and how many pods work."""
        ends = ("Complete", "Failed")
        if any(one["type"] in ends for one in (job.get("status") or {}).get("conditions") or ()):
            return
        spec = batch.spec
        wanted = {"suspend": spec.suspend, "parallelism": min(spec.parallelism, spec.shard_count)}
        patch = {name: value for name, value in wanted.items() if job["spec"].get(name) != value}
        if patch:
            answer = await self._cluster.merge("Job", batch.key, {"spec": patch}, job["metadata"]["resourceVersion"])
            self._cache.upsert(dict(answer))

    async def _schedule(self, batch: ModelBatch) -> timedelta | None:
        bodies = [one for one in self._cache.owned(BATCH_KIND, batch.key) if is_owned(one, batch.uid)]
        runs = [ModelBatch.from_body(one) for one in bodies if "deletionTimestamp" not in one["metadata"]]
        plan = plan_runs(batch, runs, self._clock.now())
        for run in plan.delete:
            await self._cluster.delete(BATCH_KIND, run.key, run.uid)
            self._cache.remove(dict(run.body))
        if plan.create is not None:
            try:
                await self._create_run(plan.create)
            except ApiError as error:
                await self._report_rejection(batch, f"ModelBatch {plan.create['metadata']['name']}", error)
                raise
        await self._write(batch, plan.status, plan.events)
        return timedelta(0) if plan.create is not None else plan.requeue_after

    async def _create_run(self, body: Body) -> None:
        """Create a run. One of the name is the same run: the operator was killed before it wrote the status."""
        try:
            created = self._cache.upsert(dict(await self._cluster.apply_new(body)))
        except ApiError as error:
            if not error.is_conflict:
                raise
            return
        # The watch brings the version that the cache has already, which enqueues nothing.
        for key in created:
            self._enqueue(key)

    async def _write(self, batch: ModelBatch, status: Body, drafts: Sequence[BatchEvent] | None = None) -> None:
        """Write a status if it changed, and its Events."""
        kept = batch.body.get("status") or {}
        patch = merge_patch(kept, {**_remembered(kept), **status})
        for draft in events(batch, status) if drafts is None else drafts:
            self._recorder.record_for(batch.body, draft)
        if patch:
            await self._patch_status(batch.body, patch)

    async def _report_rejection(self, batch: ModelBatch, what: str, error: ApiError) -> None:
        """Report an object that the API server rejects, if it does: the batch waits for a user."""
        if error.is_rejection:
            body = self._cache.owner(batch.key) or batch.body
            await self._report_invalid(body, APPLY_FAILED, f"{what} cannot be written: {error.message}")

    async def _report_invalid(self, body: Body, reason: str, message: str) -> None:
        status = invalid_status(body, reason, message, self._clock.now())
        patch = merge_patch(body.get("status") or {}, status)
        if patch:
            self._recorder.record_for(body, BatchEvent(reason, message, is_warning=True))
            await self._patch_status(body, patch)

    async def _patch_status(self, body: Body, patch: Mapping[str, Any]) -> None:
        metadata = body["metadata"]
        key = ObjectKey(metadata["namespace"], metadata["name"])
        version = metadata["resourceVersion"]
        answer = await self._cluster.merge(BATCH_KIND, key, {"status": patch}, version, subresource="status")
        for changed in self._cache.upsert(dict(answer)):
            # The watch brings the version that the cache has already: the schedule of a run hears of its end here.
            if changed != key:
                self._enqueue(changed)

    def _stop_waiting(self, key: ObjectKey) -> None:
        for model, batches in tuple(self.waiting.items()):
            batches.discard(key)
            if not batches:
                del self.waiting[model]


def _remembered(kept: Mapping[str, Any]) -> Body:
    """What a status keeps whatever a pass finds."""
    return {name: kept[name] for name in ("model",) if name in kept}
