"""Asks the pods of running batches how far they are (docs/wire.md)."""

import asyncio

from model_operator.api.batch import ShardProgress
from model_operator.api.resource import ObjectKey, key_of
from model_operator.engine.batches.cache import OwnerCache
from model_operator.engine.concurrency import KeyedTasks
from model_operator.engine.queue import WorkQueue
from model_operator.manifests.pods import PORT, pod_url
from model_operator.ports import ShardMetrics

INTERVAL = 5.0
#: Requests in flight, and the most pods of one batch that are asked at each look.
CONCURRENCY, MOST_PODS = 16, 64


class ProgressPoller:
    """Keeps the progress of pods by batch and by pod; a change enqueues the batch."""

    def __init__(self, cache: OwnerCache, queue: WorkQueue, pods: ShardMetrics) -> None:
        self._cache, self._queue, self._pods = cache, queue, pods
        self.by_batch: dict[ObjectKey, dict[str, ShardProgress]] = {}
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
        """Ask the running pods of one batch."""
        pods = [one for one in self._cache.owned("Pod", key) if (one.get("status") or {}).get("phase") == "Running"]
        urls = {key_of(pod).name: url for pod in pods[:MOST_PODS] if (url := pod_url(pod, PORT))}
        if not urls:
            self.by_batch.pop(key, None)
            return
        answers = await asyncio.gather(*(self._ask(url) for url in urls.values()))
        found = {name: answer for name, answer in zip(urls, answers, strict=True) if answer is not None}
        if found != self.by_batch.get(key):
            self.by_batch[key] = found
            self._queue.add_debounced(key)

    async def _ask(self, url: str) -> ShardProgress | None:
        async with self._limit:
            return await self._pods.shard(url)
