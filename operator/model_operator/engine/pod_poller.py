"""Asks the running pods of each owner; `batches/progress.py` and `pools/samples.py` keep the answers."""

import asyncio
from abc import abstractmethod
from collections.abc import Mapping
from typing import Generic, TypeVar

from model_operator.api.resource import ObjectKey, key_of
from model_operator.engine.batches.cache import OwnerCache
from model_operator.engine.concurrency import Poller
from model_operator.manifests.pods import PORT, pod_url, protects_metrics
from model_operator.turns import Turns

INTERVAL = 5.0
#: Requests in flight, to pods of one namespace and of all.
OF_ONE, OF_ALL = 16, 64

Answer = TypeVar("Answer")


class PodPoller(Poller, Generic[Answer]):
    """One task for each owner. `most_pods` are asked at each look, in the order of their names."""

    most_pods: int

    def __init__(self, cache: OwnerCache) -> None:
        super().__init__(INTERVAL)
        self._cache = cache
        self._turns = Turns(of_one=OF_ONE, of_all=OF_ALL)

    def _start_due(self) -> None:
        keys = list(self._cache)
        self._tasks.cancel_except(keys)
        self._tasks.start(keys, self.look)

    async def look(self, key: ObjectKey) -> None:
        """Ask the running pods of one owner."""
        pods = [one for one in self._cache.owned("Pod", key) if (one.get("status") or {}).get("phase") == "Running"]
        asked = {key_of(pod).name: (url, pod) for pod in pods[: self.most_pods] if (url := pod_url(pod, PORT))}
        if not asked:
            self._keep(key, None)
            return
        tokens = (key if protects_metrics(pod) else None for _, pod in asked.values())
        urls = (url for url, _ in asked.values())
        answers = await asyncio.gather(*(self._ask_one(key, *asked) for asked in zip(urls, tokens, strict=True)))
        self._keep(key, {name: one for name, one in zip(asked, answers, strict=True) if one is not None})

    async def _ask_one(self, key: ObjectKey, url: str, token_of: ObjectKey | None) -> Answer | None:
        async with self._turns.of(key.namespace):
            return await self._ask(url, token_of)

    @abstractmethod
    async def _ask(self, url: str, token_of: ObjectKey | None) -> Answer | None:
        """Return what a pod says; None where it does not answer. `token_of`: the owner whose token the pod wants."""

    @abstractmethod
    def _keep(self, key: ObjectKey, found: Mapping[str, Answer] | None) -> None:
        """Keep the answers of one owner, by pod; None where no pod of it runs."""
