"""Replays recent requests of stable to the candidate, for rollouts with the step `replay`.

Stable's servers keep requests from the start of such a rollout, so that the sample has filled when its step begins.
Then the operator hands what they kept to a pod of the canary, and holds the counts that this pod answers with until
they are in the status. It writes no request anywhere.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from model_operator.api.names import REVISION
from model_operator.api.replay import MOST_BYTES, RecordedRequests, ReplayCounts
from model_operator.api.resource import ModelDeployment, ObjectKey
from model_operator.api.steps import Replay
from model_operator.api.values import replace
from model_operator.engine.cache import Cache
from model_operator.engine.concurrency import Poller, chosen
from model_operator.engine.queue import WorkQueue
from model_operator.engine.shadow_collector import wants_token
from model_operator.errors import ProviderError
from model_operator.manifests.pods import SHADOW_PORT, pod_url
from model_operator.observation.observe import is_ready
from model_operator.observation.values import Observed, ReplayView
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.rollout.replay import is_recording, is_replaying, is_sample_due, requests_ahead
from model_operator.ports import Clock, Replays
from model_operator.turns import Turns

#: Seconds between two polls.
INTERVAL = 2.0
#: Seconds for which servers keep requests after a poll: longer than another operator takes to become the leader.
KEEP_SECONDS = 120.0
#: Replays at a time, of one namespace and of all: each holds a sample of a few MiB.
_OF_ONE, _OF_ALL = 2, 8


class _Point(NamedTuple):
    """Step of a rollout. A result is valid for this point only."""

    canary: str
    steps_hash: str
    step_index: int
    since: datetime | None


@dataclass(slots=True)
class _Rollout:
    """State of one rollout at one step."""

    point: _Point
    view: ReplayView = field(default_factory=ReplayView)


class Replayer(Poller):
    """Polls the servers of rollouts with a replay, and holds the results."""

    def __init__(self, cache: Cache, queue: WorkQueue, replays: Replays, clock: Clock) -> None:
        super().__init__(INTERVAL)
        self._cache, self._queue, self._replays, self._clock = cache, queue, replays, clock
        self._rollouts: dict[ObjectKey, _Rollout] = {}
        self._turns = Turns(of_one=_OF_ONE, of_all=_OF_ALL)

    def view(self, resource: ModelDeployment) -> ReplayView:
        """Return the replay of the current step so far."""
        rollout = self._rollouts.get(resource.key)
        return rollout.view if rollout is not None and rollout.point == _point(resource) else ReplayView()

    def _start_due(self) -> None:
        keys = chosen(self._cache, self._has_replay)
        for key in self._rollouts.keys() - set(keys):
            del self._rollouts[key]
        self._tasks.cancel_except(keys)
        self._tasks.start(keys, self._poll_one)

    def _has_replay(self, key: ObjectKey) -> bool:
        body = self._cache.resource(key) or {}
        if not (body.get("status") or {}).get("canaryRevision"):
            return False
        canary = (body.get("spec", {}).get("strategy") or {}).get("canary") or {}
        return any("replay" in step for step in canary.get("steps") or ())

    async def _poll_one(self, key: ObjectKey) -> None:
        resource = self._cache.get_valid(key)
        if resource is None:
            return
        s = RolloutContext(resource=resource, status=resource.status, observed=Observed(), now=self._clock.now())
        rollout = self._rollouts.get(key)
        if rollout is None or rollout.point != _point(resource):
            self._rollouts[key] = rollout = _Rollout(_point(resource))
        if rollout.view.counts is not None or not is_recording(s):
            return
        before = rollout.view
        try:
            async with self._turns.of(key.namespace):
                rollout.view = await self._next_view(s)
        except ProviderError as error:
            rollout.view = replace(rollout.view, problem=str(error))
        if rollout.view != before and is_replaying(s):
            self._queue.add(key)

    async def _next_view(self, s: RolloutContext) -> ReplayView:
        """Ask the servers once; without a result, return how many requests stable's have recorded.

        Raises:
            ProviderError: no server of stable, or none of the canary, responded.
        """
        resource, step = s.resource, s.current_step
        stable = self._servers(resource, s.status.stable)
        size = requests_ahead(s)
        kept = {url: answer.kept for url, answer in (await self._ask(resource, stable, size, {})).items()}
        recorded = sum(kept.values())
        canary = self._servers(resource, s.status.canary) if is_replaying(s) else ()
        if not isinstance(step, Replay) or not canary or not is_sample_due(s, step, recorded):
            return ReplayView(recorded=recorded)
        answers = await self._ask(resource, tuple(kept), size, _shares(kept, step.requests))
        sample = _first(answers.values(), MOST_BYTES)
        if not sample:
            raise ProviderError(f"revision {s.status.stable} had no time to answer its recorded requests again")
        return ReplayView(recorded=recorded, counts=await self._compare(resource, canary, step, sample))

    async def _ask(
        self, resource: ModelDeployment, urls: Sequence[str], size: int, shares: Mapping[str, int]
    ) -> Mapping[str, RecordedRequests]:
        """Have servers keep so many requests, and answer their shares of the sample; those that fail are skipped.

        Raises:
            ProviderError: none responded.
        """
        token = self._replays.token(resource.key)

        async def ask(url: str) -> RecordedRequests | ProviderError:
            try:
                return await self._replays.requests(
                    url, size=size, seconds=KEEP_SECONDS, answer=shares.get(url, 0), token=token
                )
            except ProviderError as error:
                return error

        answers = dict(zip(urls, await asyncio.gather(*map(ask, urls)), strict=True))
        errors = [answer for answer in answers.values() if isinstance(answer, ProviderError)]
        if len(errors) == len(answers):
            raise errors[0] if errors else ProviderError(f"no pod of revision {resource.status.stable} is ready")
        return {url: answer for url, answer in answers.items() if isinstance(answer, RecordedRequests)}

    async def _compare(
        self, resource: ModelDeployment, urls: Sequence[str], step: Replay, sample: Sequence[bytes]
    ) -> ReplayCounts:
        """Return the counts of the first server of the canary that responds.

        Raises:
            ProviderError: none did.
        """
        error = ProviderError(f"no pod of revision {resource.status.canary} is ready")
        for url in urls:
            try:
                return await self._replays.compare(url, step, sample, token=self._replays.token(resource.key))
            except ProviderError as failed:
                error = failed
        raise error

    def _servers(self, resource: ModelDeployment, revision: str) -> Sequence[str]:
        """Return the URLs of the ready pods of a revision.

        Raises:
            ProviderError: its servers were made without a token, and show no requests.
        """
        children = self._cache.children(resource.key)
        mine = [body for body in children.values() if (body["metadata"].get("labels") or {}).get(REVISION) == revision]
        deployments = [body for body in mine if body["kind"] == "Deployment"]
        if deployments and not any(map(wants_token, deployments)):
            raise ProviderError(f"the pods of revision {revision} have no token of the operator, and show no requests")
        pods = [body for body in mine if body["kind"] == "Pod" and is_ready(body)]
        return [url for pod in pods if (url := pod_url(pod, SHADOW_PORT))]


def _point(resource: ModelDeployment) -> _Point:
    status = resource.status
    return _Point(status.canary, status.steps_hash, status.step_index, status.step_started_at)


def _shares(kept: Mapping[str, int], size: int) -> Mapping[str, int]:
    """Return how many requests each server contributes to a sample of this size."""
    shares = {}
    for url, count in kept.items():
        shares[url] = min(count, size)
        size -= shares[url]
    return shares


def _first(answers: Iterable[RecordedRequests], most_bytes: int) -> Sequence[bytes]:
    """Return the requests of all answers, as many as fit."""
    found, size = [], 0
    for request in (request for answer in answers for request in answer.requests):
        size += len(request)
        if size > most_bytes:
            break
        found.append(request)
    return found
