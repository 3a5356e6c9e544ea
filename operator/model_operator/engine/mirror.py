"""Looks for requests that canary and stable have both answered; `evidence` calls it at each look at a rollout.

A first look at a pod is a baseline, as with counters: what it answered before is no evidence. After a restart of the
operator every pod is looked at for the first time again.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from model_operator.api.names import REVISION
from model_operator.api.predictions import Prediction, Question, Told
from model_operator.api.resource import ModelDeployment
from model_operator.api.spec import parse_server
from model_operator.engine.observe import source_of
from model_operator.errors import ProviderError
from model_operator.manifests.pods import SHADOW_PORT, pod_url
from model_operator.policy.mirrored import Pair, Waiting, join, next_every
from model_operator.ports import Predictions

Body = Mapping[str, Any]
Children = Mapping[tuple[str, str], Body]
#: Servers go on keeping for so long when the next look is late.
_PATIENCE = timedelta(seconds=30)


@dataclass(slots=True)
class Mirror:
    """What one rollout remembers between two looks. `cursors` are by the pods' uids."""

    every: int = 1
    cursors: dict[str, tuple[int, ...]] = field(default_factory=dict)
    waiting: Waiting = field(default_factory=Waiting)


async def pairs_since(
    mirror: Mirror,
    predictions: Predictions,
    resource: ModelDeployment,
    pods: Sequence[Body],
    children: Children,
    interval: timedelta,
) -> Sequence[Pair]:
    """Return the pairs of answers since the last look.

    Raises:
        ProviderError: no pod of the canary, or none of stable, told its predictions.
    """
    canary, stable = resource.status.canary, resource.status.stable
    seconds = (2 * interval + _PATIENCE).total_seconds()
    found = {
        revision: await _ask_revision(
            mirror,
            predictions,
            [pod for pod in pods if pod["metadata"]["labels"].get(REVISION) == revision],
            Question(every=mirror.every, seconds=seconds),
            await _api_key(predictions, resource, revision, children),
        )
        for revision in (canary, stable)
    }
    kept = [_kept(mirror.cursors.get(uid), told) for answers in found.values() for uid, told in answers.items()]
    mirror.every = next_every(mirror.every, max(kept, default=0))
    mirror.cursors = {uid: told.cursor for answers in found.values() for uid, told in answers.items()}
    ours, theirs = (_predictions(found[revision]) for revision in (canary, stable))
    pairs, mirror.waiting = join(mirror.waiting, ours, theirs)
    return pairs


async def _ask_revision(
    mirror: Mirror, predictions: Predictions, pods: Sequence[Body], question: Question, api_key: str
) -> Mapping[str, Told]:
    """Return what the pods of a revision tell, by uid; a pod that leaves is no matter while others answer."""

    async def ask(pod: Body) -> Told | ProviderError:
        after = mirror.cursors.get(pod["metadata"]["uid"])
        asked = Question(every=question.every, seconds=question.seconds, after=after)
        try:
            return await predictions.ask(pod_url(pod, SHADOW_PORT), asked, api_key)
        except ProviderError as error:
            return error

    known = [pod for pod in pods if pod_url(pod, SHADOW_PORT)]
    answers = await asyncio.gather(*(ask(pod) for pod in known))
    errors = [answer for answer in answers if isinstance(answer, ProviderError)]
    if errors and len(errors) == len(answers):
        raise errors[0]
    return {
        pod["metadata"]["uid"]: answer for pod, answer in zip(known, answers, strict=True) if isinstance(answer, Told)
    }


async def _api_key(predictions: Predictions, resource: ModelDeployment, revision: str, children: Children) -> str:
    """Return a key that the servers of a revision accept, empty when they ask for none."""
    for (kind, _), body in children.items():
        metadata = body["metadata"]
        if kind == "Deployment" and metadata["labels"].get(REVISION) == revision:
            secret_name = parse_server(source_of(body)["server"]).auth_secret_name
            return await predictions.api_key(resource.key.namespace, secret_name) if secret_name else ""
    return ""


def _kept(before: tuple[int, ...] | None, told: Told) -> int:
    """Return how many predictions the busiest worker has kept since the last look; 0 at the first one."""
    if before is None or len(before) != len(told.cursor):
        return 0
    return max(now - then for then, now in zip(before, told.cursor, strict=True))


def _predictions(answers: Mapping[str, Told]) -> list[Prediction]:
    return [prediction for told in answers.values() for prediction in told.predictions]
