"""The engine of ModelPools: reflectors fill its cache, changes fill its queue, workers empty it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from model_operator.api.json import JsonObject
from model_operator.api.names import POOL
from model_operator.api.pool import POOL_KIND
from model_operator.api.resource import ObjectKey
from model_operator.engine.batches.cache import OwnerCache
from model_operator.engine.events import EventRecorder
from model_operator.engine.pools.reconcile import PoolReconciler
from model_operator.engine.pools.samples import SamplePoller
from model_operator.engine.queue import WorkQueue
from model_operator.engine.reflector import Change, Reflector, Source
from model_operator.engine.worker import run_pass, run_worker
from model_operator.policy.admission import Admission
from model_operator.ports import Clock, PoolCluster, PoolMetrics

WORKERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPorts:
    """What the engine of pools needs from outside."""

    cluster: PoolCluster
    sources: Sequence[Source]
    pods: PoolMetrics


class PoolEngine:
    """Connects watches, queue and reconciler of all ModelPools."""

    def __init__(self, ports: PoolPorts, recorder: EventRecorder, clock: Clock, admission: Admission) -> None:
        self.cache = OwnerCache(POOL_KIND, POOL)
        self.queue = WorkQueue()
        self.samples = SamplePoller(self.cache, self.queue, ports.pods)
        self.reconciler = PoolReconciler(ports.cluster, self.cache, recorder, clock, admission, self.samples.by_pool)
        self.reflectors = [
            Reflector(source, self.cache, self.changed, self.queue.add_debounced, set()) for source in ports.sources
        ]

    def changed(self, body: JsonObject, change: Change) -> None:
        """Handle a change of a ModelPool, or of an object of one."""
        keys = self.cache.remove(body) if change is Change.DELETED else self.cache.upsert(body)
        for key in keys:
            if body["kind"] == POOL_KIND:
                self.queue.add(key)
            else:
                self.queue.add_debounced(key)

    async def reflect(self) -> None:
        """Keep the cache up to date, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self.reflectors:
                group.create_task(reflector.run(), name=f"reflect-pool-{reflector.kind}")

    async def work(self) -> None:
        """Reconcile, until cancelled. Only the leader may."""
        for reflector in self.reflectors:
            await reflector.listed.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.samples.run(), name="pool-samples")
            for number in range(WORKERS if self.reflectors else 0):
                group.create_task(run_worker(self.queue, self._pass), name=f"pool-worker-{number}")

    async def _pass(self, key: ObjectKey) -> None:
        await run_pass(self.queue, key, self.reconciler, POOL_KIND)
