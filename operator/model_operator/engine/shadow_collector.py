"""Looks for requests that canary and stable have both answered; `evidence` calls it at each look at a rollout.

A first look at a pod is a baseline, as with counters: what it answered before is no evidence. After a restart of the
operator every pod is looked at for the first time again.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from model_operator.api.json import Body
from model_operator.api.names import REVISION
from model_operator.api.resource import ModelDeployment
from model_operator.api.shadow import Prediction, ShadowRequest, ShadowResponse
from model_operator.api.spec import parse_server
from model_operator.engine.cache import Cache
from model_operator.errors import ProviderError
from model_operator.manifests.pods import SHADOW_PORT, pod_url
from model_operator.observation.observe import source_of
from model_operator.policy.analysis.shadow_test import Pair, Waiting, join, next_every
from model_operator.ports import Predictions

#: Servers go on keeping for so long when the next look is late.
_PATIENCE = timedelta(seconds=30)


@dataclass(slots=True)
class Mirror:
    """What one rollout remembers between two looks. `cursors` are by the pods' uids."""

    every: int = 1
    cursors: dict[str, tuple[int, ...]] = field(default_factory=dict)
    waiting: Waiting = field(default_factory=Waiting)


class MirrorReader:
    """Asks the pods of a rollout, `limit` of all rollouts at once."""

    def __init__(self, cache: Cache, predictions: Predictions, limit: asyncio.Semaphore) -> None:
        self._cache, self._predictions, self._limit = cache, predictions, limit

    async def pairs_since(
        self, mirror: Mirror, resource: ModelDeployment, pods: Sequence[Body], interval: timedelta
    ) -> Sequence[Pair]:
        """Return the pairs of answers since the last look; the next one is in about `interval`.

        Raises:
            ProviderError: no pod of the canary, or none of stable, told its predictions.
        """
        canary, stable = resource.status.canary, resource.status.stable
        seconds = (2 * interval + _PATIENCE).total_seconds()
        found = {
            revision: await self._ask_revision(mirror, resource, revision, pods, seconds)
            for revision in (canary, stable)
        }
        kept = [_kept(mirror.cursors.get(uid), told) for answers in found.values() for uid, told in answers.items()]
        mirror.every = next_every(mirror.every, max(kept, default=0))
        mirror.cursors = {uid: told.cursor for answers in found.values() for uid, told in answers.items()}
        pairs, mirror.waiting = join(mirror.waiting, _predictions(found[canary]), _predictions(found[stable]))
        return pairs

    async def _ask_revision(
        self, mirror: Mirror, resource: ModelDeployment, revision: str, pods: Sequence[Body], seconds: float
    ) -> Mapping[str, ShadowResponse]:
        """Return what the pods of a revision tell, by uid; a pod that leaves is no matter while others answer."""
        urls = {
            pod["metadata"]["uid"]: url
            for pod in pods
            if pod["metadata"]["labels"].get(REVISION) == revision and (url := pod_url(pod, SHADOW_PORT))
        }
        if not urls:
            return {}
        api_key = await self._api_key(resource, revision)

        async def ask(uid: str, url: str) -> ShadowResponse | ProviderError:
            question = ShadowRequest(every=mirror.every, seconds=seconds, after=mirror.cursors.get(uid))
            try:
                async with self._limit:
                    return await self._predictions.ask(url, question, api_key)
            except ProviderError as error:
                return error

        answers = dict(zip(urls, await asyncio.gather(*(ask(uid, url) for uid, url in urls.items())), strict=True))
        errors = [answer for answer in answers.values() if isinstance(answer, ProviderError)]
        if len(errors) == len(answers):
            raise errors[0]
        return {uid: answer for uid, answer in answers.items() if isinstance(answer, ShadowResponse)}

    async def _api_key(self, resource: ModelDeployment, revision: str) -> str:
        """Return a key that the servers of a revision accept, empty when they ask for none."""
        for (kind, _), body in self._cache.children(resource.key).items():
            if kind == "Deployment" and body["metadata"]["labels"].get(REVISION) == revision:
                name = parse_server(source_of(body)["server"]).auth_secret_name
                return await self._predictions.api_key(resource.key.namespace, name) if name else ""
        return ""


def _kept(before: tuple[int, ...] | None, told: ShadowResponse) -> int:
    """Return how many predictions the busiest worker has kept since the last look; 0 at the first one."""
    if before is None or len(before) != len(told.cursor):
        return 0
    return max(now - then for then, now in zip(before, told.cursor, strict=True))


def _predictions(answers: Mapping[str, ShadowResponse]) -> list[Prediction]:
    return [prediction for told in answers.values() for prediction in told.predictions]
