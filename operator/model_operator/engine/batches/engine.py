"""The engine of ModelBatches: reflectors fill its cache, changes fill its queue, workers empty it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from model_operator.api.batch import BATCH_KIND
from model_operator.api.json import JsonObject
from model_operator.api.names import BATCH
from model_operator.api.resource import ObjectKey
from model_operator.engine.batches.cache import OwnerCache
from model_operator.engine.batches.progress import ProgressPoller
from model_operator.engine.batches.reconcile import BatchReconciler, FindModel
from model_operator.engine.events import EventRecorder
from model_operator.engine.queue import WorkQueue
from model_operator.engine.reflector import Change, Reflector, Source
from model_operator.engine.worker import run_pass, run_worker
from model_operator.policy.admission import Admission
from model_operator.ports import BatchCluster, Clock, ShardMetrics

WORKERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPorts:
    """What the engine of batches needs from outside."""

    cluster: BatchCluster
    sources: Sequence[Source]
    pods: ShardMetrics


class BatchEngine:
    """Connects watches, queue and reconciler of all ModelBatches."""

    def __init__(
        self,
        *,
        cluster: BatchCluster,
        sources: Sequence[Source],
        pods: ShardMetrics,
        find_model: FindModel,
        recorder: EventRecorder,
        clock: Clock,
        admission: Admission,
    ) -> None:
        self.cache = OwnerCache(BATCH_KIND, BATCH)
        self.queue = WorkQueue()
        self.progress = ProgressPoller(self.cache, self.queue, pods)
        self.reconciler = BatchReconciler(
            cluster, self.cache, find_model, recorder, clock, admission, self.progress.by_batch, self.queue.add
        )
        self.reflectors = [
            Reflector(source, self.cache, self.changed, self.queue.add_debounced, set()) for source in sources
        ]

    def changed(self, body: JsonObject, change: Change) -> None:
        """Handle a change of a ModelBatch, or of an object of one."""
        keys = self.cache.remove(body) if change is Change.DELETED else self.cache.upsert(body)
        for key in keys:
            if body["kind"] == BATCH_KIND:
                self.queue.add(key)
            else:
                self.queue.add_debounced(key)

    def model_changed(self, model: ObjectKey) -> None:
        """Handle a change of a ModelDeployment: batches may wait for it."""
        for key in self.reconciler.waiting.get(model, ()):
            self.queue.add_debounced(key)

    async def reflect(self) -> None:
        """Keep the cache up to date, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self.reflectors:
                group.create_task(reflector.run(), name=f"reflect-batch-{reflector.kind}")

    async def work(self) -> None:
        """Reconcile, until cancelled. Only the leader may."""
        for reflector in self.reflectors:
            await reflector.listed.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.progress.run(), name="batch-progress")
            for number in range(WORKERS if self.reflectors else 0):
                group.create_task(run_worker(self.queue, self._pass), name=f"batch-worker-{number}")

    async def _pass(self, key: ObjectKey) -> None:
        await run_pass(self.queue, key, self.reconciler, BATCH_KIND)
