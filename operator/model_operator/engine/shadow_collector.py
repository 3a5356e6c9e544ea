"""Collects the predictions of canary and stable for the same requests; `metrics_collector` calls it in each poll.

The first poll of a pod is a baseline, as with counters: earlier predictions are not evidence. After a restart of the
operator, every pod starts with a baseline again.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from model_operator.api.names import REVISION
from model_operator.api.resource import ModelDeployment
from model_operator.api.shadow import DIGEST_VARIABLE, Prediction, ShadowRequest, ShadowResponse
from model_operator.api.spec import parse_server
from model_operator.engine.cache import Cache
from model_operator.errors import ProviderError
from model_operator.manifests.pods import SHADOW_PORT, pod_url
from model_operator.observation.observe import source_of
from model_operator.policy.analysis.metric_test import Pair
from model_operator.policy.analysis.shadow_pairs import Unpaired, next_every, pair_predictions
from model_operator.ports import Predictions
from model_operator.turns import Turns

Body = Mapping[str, Any]
#: Additional time for which servers keep predictions, in case the next poll is late.
_GRACE = timedelta(seconds=30)


@dataclass(slots=True)
class ShadowCursor:
    """Position of one rollout between two polls. `cursors` are by the uids of the pods."""

    every: int = 1
    cursors: dict[str, tuple[int, ...]] = field(default_factory=dict)
    unpaired: Unpaired = field(default_factory=Unpaired)


class ShadowCollector:
    """Polls the pods of a rollout; `turns` bounds the concurrent requests of all rollouts."""

    def __init__(self, cache: Cache, predictions: Predictions, turns: Turns) -> None:
        self._cache, self._predictions, self._turns = cache, predictions, turns

    async def pairs_since(
        self, position: ShadowCursor, resource: ModelDeployment, pods: Sequence[Body], interval: timedelta
    ) -> Sequence[Pair]:
        """Return the pairs of answers since the last poll; the next one is in about `interval`.

        Raises:
            ProviderError: no pod of the canary, or none of stable, responded.
        """
        canary, stable = resource.status.canary, resource.status.stable
        seconds = (2 * interval + _GRACE).total_seconds()
        found = {
            revision: await self._ask_revision(position, resource, revision, pods, seconds)
            for revision in (canary, stable)
        }
        kept = [
            _kept(position.cursors.get(uid), answer) for answers in found.values() for uid, answer in answers.items()
        ]
        position.every = next_every(position.every, max(kept, default=0))
        position.cursors = {uid: answer.cursor for answers in found.values() for uid, answer in answers.items()}
        pairs, position.unpaired = pair_predictions(
            position.unpaired, _predictions(found[canary]), _predictions(found[stable])
        )
        return pairs

    async def _ask_revision(
        self, position: ShadowCursor, resource: ModelDeployment, revision: str, pods: Sequence[Body], seconds: float
    ) -> Mapping[str, ShadowResponse]:
        """Return the responses of the pods of a revision, by uid; pods that fail are skipped while another responds."""
        urls = {
            pod["metadata"]["uid"]: url
            for pod in pods
            if pod["metadata"]["labels"].get(REVISION) == revision and (url := pod_url(pod, SHADOW_PORT))
        }
        if not urls:
            return {}
        api_key = await self._api_key(resource, revision)

        async def ask(uid: str, url: str) -> ShadowResponse | ProviderError:
            request = ShadowRequest(every=position.every, seconds=seconds, after=position.cursors.get(uid))
            try:
                async with self._turns.of(resource.key.namespace):
                    return await self._predictions.ask(url, request, api_key)
            except ProviderError as error:
                return error

        answers = dict(zip(urls, await asyncio.gather(*(ask(uid, url) for uid, url in urls.items())), strict=True))
        errors = [answer for answer in answers.values() if isinstance(answer, ProviderError)]
        if len(errors) == len(answers):
            raise errors[0]
        return {uid: answer for uid, answer in answers.items() if isinstance(answer, ShadowResponse)}

    async def _api_key(self, resource: ModelDeployment, revision: str) -> str:
        """Return what the servers of a revision accept, empty when they require nothing.

        That is the operator's token, and where their pods were made without one, a key of the API.
        """
        for (kind, _), body in self._cache.children(resource.key).items():
            if kind == "Deployment" and body["metadata"]["labels"].get(REVISION) == revision:
                if wants_token(body):
                    return self._predictions.token(resource.key)
                name = parse_server(source_of(body)["server"]).auth_secret_name
                return await self._predictions.api_key(resource.key.namespace, name) if name else ""
        return ""


def wants_token(deployment: Body) -> bool:
    """Whether the server of a Deployment was given the digest of a token."""
    containers = deployment["spec"]["template"]["spec"].get("containers") or ()
    variables = next((one.get("env") or () for one in containers if one["name"] == "server"), ())
    return any(variable["name"] == DIGEST_VARIABLE for variable in variables)


def _kept(before: tuple[int, ...] | None, answer: ShadowResponse) -> int:
    """Return how many predictions the busiest worker has kept since the last poll; 0 in the first one."""
    if before is None or len(before) != len(answer.cursor):
        return 0
    return max(now - then for then, now in zip(before, answer.cursor, strict=True))


def _predictions(answers: Mapping[str, ShadowResponse]) -> list[Prediction]:
    return [prediction for answer in answers.values() for prediction in answer.predictions]
