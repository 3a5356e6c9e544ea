"""Asks the pods of pools how their models are (docs/wire.md)."""

import asyncio
from collections.abc import Sequence

from model_operator.api.pool import PoolSample
from model_operator.api.resource import ObjectKey, key_of
from model_operator.engine.batches.cache import OwnerCache
from model_operator.engine.concurrency import KeyedTasks
from model_operator.engine.queue import WorkQueue
from model_operator.manifests.pods import PORT, pod_url
from model_operator.ports import PoolMetrics

INTERVAL = 5.0
#: Seconds after which the number of loaded models, which changes all day, is worth another write of the status.
QUIET = 30.0
#: Requests in flight, and the most pods of one pool that are asked at each look.
CONCURRENCY, MOST_PODS = 16, 16


class SamplePoller:
    """Keeps what the pods say, by pool; a change enqueues the pool."""

    def __init__(self, cache: OwnerCache, queue: WorkQueue, pods: PoolMetrics) -> None:
        self._cache, self._queue, self._pods = cache, queue, pods
        self.by_pool: dict[ObjectKey, tuple[PoolSample, ...]] = {}
        #: What each pool was enqueued for last, and when.
        self._told: dict[ObjectKey, tuple[float, tuple[PoolSample, ...]]] = {}
        self._tasks = KeyedTasks()
        self._limit = asyncio.Semaphore(CONCURRENCY)

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        await self._tasks.repeat(self._start_looks, INTERVAL)

    def _start_looks(self) -> None:
        keys = list(self._cache)
        self._tasks.cancel_except(keys)
        self._tasks.start(keys, self.look)

    async def look(self, key: ObjectKey) -> None:
        """Ask the running pods of one pool."""
        pods = [one for one in self._cache.owned("Pod", key) if (one.get("status") or {}).get("phase") == "Running"]
        urls = [url for pod in sorted(pods, key=key_of)[:MOST_PODS] if (url := pod_url(pod, PORT))]
        answers = await asyncio.gather(*(self._ask(url) for url in urls))
        found = tuple(answer for answer in answers if answer is not None)
        self.by_pool[key] = found
        then, told = self._told.get(key, (0.0, ()))
        now = asyncio.get_running_loop().time()
        if is_worth_a_write(told, found, seconds=now - then):
            self._told[key] = now, found
            self._queue.add_debounced(key)

    async def _ask(self, url: str) -> PoolSample | None:
        async with self._limit:
            return await self._pods.pool(url)


def is_worth_a_write(told: Sequence[PoolSample], found: Sequence[PoolSample], *, seconds: float) -> bool:
    """Whether a pool is looked at for a sample: at once where models fail or recover, else not too often."""
    if found == told:
        return False
    failures = [[(one.failed, one.failures) for one in samples] for samples in (told, found)]
    return seconds >= QUIET or failures[0] != failures[1]
