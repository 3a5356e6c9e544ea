"""Polls the gates of the rollouts that wait at one, until they open."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from model_operator.api.hooks import Gate, GateAnswer
from model_operator.api.resource import ModelDeployment, ObjectKey
from model_operator.engine.cache import Cache
from model_operator.engine.concurrency import Poller, chosen
from model_operator.engine.queue import WorkQueue
from model_operator.policy.rollout.gates import question
from model_operator.policy.rollout.pauses import PauseReason
from model_operator.ports import Clock, Webhooks

#: Seconds between two searches for waiting rollouts.
INTERVAL = 1.0
#: Time after which a gate that is closed, or did not respond, is polled again.
ASK_AGAIN = timedelta(seconds=10)


class _Point(NamedTuple):
    """Point at which a rollout waits. An answer is valid for this point only."""

    canary: str
    step_index: int
    since: datetime


class GatePoller(Poller):
    """Polls gates and holds their answers."""

    def __init__(self, cache: Cache, queue: WorkQueue, hooks: Webhooks, clock: Clock) -> None:
        super().__init__(INTERVAL)
        self._cache, self._queue, self._hooks, self._clock = cache, queue, hooks, clock
        self._answers: dict[ObjectKey, tuple[_Point, dict[str, GateAnswer]]] = {}
        self._asked: dict[ObjectKey, datetime] = {}

    def answers(self, resource: ModelDeployment) -> Mapping[str, GateAnswer]:
        """Return the answers of the gates, by name, for the point at which the rollout waits."""
        point, answers = self._answers.get(resource.key, (None, {}))
        return answers if point is not None and point == _point(resource) else {}

    def _start_due(self) -> None:
        """Request the gates of every rollout that waits and has no recent answer."""
        waiting = chosen(self._cache, self._is_waiting)
        for key in {*self._answers, *self._asked}.difference(waiting):
            self._answers.pop(key, None)
            self._asked.pop(key, None)
        now = self._clock.now()
        due = [key for key in waiting if key not in self._asked or now - self._asked[key] >= ASK_AGAIN]
        self._tasks.cancel_except(waiting)
        self._tasks.start(due, self._ask)

    def _is_waiting(self, key: ObjectKey) -> bool:
        status = (self._cache.resource(key) or {}).get("status") or {}
        return any(pause["reason"] == PauseReason.GATE for pause in status.get("pauseConditions", ()))

    async def _ask(self, key: ObjectKey) -> None:
        resource = self._cache.get_valid(key)
        point = _point(resource) if resource is not None else None
        if resource is None or point is None:
            return
        self._asked[key] = self._clock.now()
        answers_by_gate = dict(self.answers(resource))
        gates = [
            gate
            for gate in resource.spec.hooks.gates
            if gate.name not in answers_by_gate or not answers_by_gate[gate.name].is_open
        ]
        answers = await asyncio.gather(*(self._answer(resource, gate) for gate in gates))
        answers_by_gate.update(zip((gate.name for gate in gates), answers, strict=True))
        self._answers[key] = (point, answers_by_gate)
        self._queue.add(key)

    async def _answer(self, resource: ModelDeployment, gate: Gate) -> GateAnswer:
        return await self._hooks.ask(gate.address, resource.key.namespace, question(resource, gate))


def _point(resource: ModelDeployment) -> _Point | None:
    status = resource.status
    since = next((pause.start_time for pause in status.pauses if pause.reason == PauseReason.GATE), None)
    return _Point(status.canary, status.step_index, since) if since else None
