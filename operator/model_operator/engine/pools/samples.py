"""Asks the pods of pools how their models are (docs/wire.md)."""

import asyncio
from collections.abc import Mapping, Sequence

from model_operator.api.pool import PoolSample
from model_operator.api.resource import ObjectKey
from model_operator.engine.batches.cache import OwnerCache
from model_operator.engine.pod_poller import PodPoller
from model_operator.engine.queue import WorkQueue
from model_operator.ports import PoolMetrics

#: Seconds after which the number of loaded models, which changes all day, is worth another write of the status.
QUIET = 30.0


class SamplePoller(PodPoller[PoolSample]):
    """Keeps what the pods say, by pool; a change enqueues the pool."""

    most_pods = 16

    def __init__(self, cache: OwnerCache, queue: WorkQueue, pods: PoolMetrics) -> None:
        super().__init__(cache)
        self._queue, self._pods = queue, pods
        self.by_pool: dict[ObjectKey, tuple[PoolSample, ...]] = {}
        #: What each pool was enqueued for last, and when.
        self._told: dict[ObjectKey, tuple[float, tuple[PoolSample, ...]]] = {}

    async def _ask(self, url: str, token_of: ObjectKey | None) -> PoolSample | None:
        return await self._pods.pool(url, token_of)

    def _keep(self, key: ObjectKey, found: Mapping[str, PoolSample] | None) -> None:
        samples = self.by_pool[key] = tuple((found or {}).values())
        then, told = self._told.get(key, (0.0, ()))
        now = asyncio.get_running_loop().time()
        if is_worth_a_write(told, samples, seconds=now - then):
            self._told[key] = now, samples
            self._queue.add_debounced(key)


def is_worth_a_write(told: Sequence[PoolSample], found: Sequence[PoolSample], *, seconds: float) -> bool:
    """Whether a pool is looked at for a sample: at once where models fail or recover, else not too often."""
    if found == told:
        return False
    failures = [[(one.failed, one.failures) for one in samples] for samples in (told, found)]
    return seconds >= QUIET or failures[0] != failures[1]
