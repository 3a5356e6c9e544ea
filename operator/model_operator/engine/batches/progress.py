"""Asks the pods of running batches how far they are (docs/wire.md)."""

from collections.abc import Mapping

from model_operator.api.batch import ShardProgress
from model_operator.api.resource import ObjectKey
from model_operator.engine.batches.cache import OwnerCache
from model_operator.engine.pod_poller import PodPoller
from model_operator.engine.queue import WorkQueue
from model_operator.ports import ShardMetrics


class ProgressPoller(PodPoller[ShardProgress]):
    """Keeps the progress of pods by batch and by pod; a change enqueues the batch."""

    most_pods = 64

    def __init__(self, cache: OwnerCache, queue: WorkQueue, pods: ShardMetrics) -> None:
        super().__init__(cache)
        self._queue, self._pods = queue, pods
        self.by_batch: dict[ObjectKey, dict[str, ShardProgress]] = {}

    async def _ask(self, url: str, token_of: ObjectKey | None) -> ShardProgress | None:
        return await self._pods.shard(url)

    def _keep(self, key: ObjectKey, found: Mapping[str, ShardProgress] | None) -> None:
        if found is None:
            self.by_batch.pop(key, None)
        elif found != self.by_batch.get(key):
            self.by_batch[key] = dict(found)
            self._queue.add_debounced(key)
