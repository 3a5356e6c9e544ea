"""Sends notifications of changes of phase: in the background, a few times, and never in the way of a reconcile."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from model_operator.api.hooks import Notification
from model_operator.api.resource import ModelDeployment
from model_operator.api.status import Status
from model_operator.errors import ProviderError
from model_operator.policy.status.notifications import notice
from model_operator.ports import Clock, Webhooks

log = logging.getLogger(__name__)

#: Seconds before each further try.
RETRIES = (1.0, 5.0, 25.0)
#: Notifications of one namespace that may wait, and that are sent at a time: one team's hooks do not delay another's.
_QUEUED = 200
_AT_ONCE = 4


class Notifier:
    """Bounded queues of notifications, one for each namespace. What does not fit, or is not accepted, is logged."""

    def __init__(self, hooks: Webhooks, clock: Clock) -> None:
        self._hooks, self._clock = hooks, clock
        self._waiting: dict[str, list[tuple[Notification, Mapping[str, Any]]]] = defaultdict(list)
        self._sending: dict[str, set[asyncio.Task[None]]] = defaultdict(set)
        self._is_running = False

    def notify(self, resource: ModelDeployment, new: Status) -> None:
        """Queue the notifications of the step from the resource's status to a new one."""
        namespace = resource.key.namespace
        for notification in resource.spec.hooks.notifications:
            body = notice(notification, resource, new, self._clock.now())
            if body is None:
                continue
            if len(self._waiting[namespace]) >= _QUEUED:
                log.warning("notification %s was dropped: too many of %s are waiting", notification.name, namespace)
                continue
            self._waiting[namespace].append((notification, body))
            self._start(namespace)

    async def run(self) -> None:
        """Send queued notifications until cancelled."""
        self._is_running = True
        try:
            for namespace in list(self._waiting):
                self._start(namespace)
            await asyncio.Event().wait()
        finally:
            self._is_running = False
            tasks = [task for sending in self._sending.values() for task in sending]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, namespace: str) -> None:
        """Send what waits, as many at a time as a namespace may."""
        sending, waiting = self._sending[namespace], self._waiting[namespace]
        while self._is_running and waiting and len(sending) < _AT_ONCE:
            task = asyncio.create_task(self._send(namespace, *waiting.pop(0)))
            sending.add(task)
            task.add_done_callback(lambda task: self._done(namespace, task))
        if not waiting and not sending:
            self._waiting.pop(namespace, None)
            self._sending.pop(namespace, None)

    def _done(self, namespace: str, task: "asyncio.Task[None]") -> None:
        self._sending[namespace].discard(task)
        self._start(namespace)

    async def _send(self, namespace: str, notification: Notification, body: Mapping[str, Any]) -> None:
        for wait in (*RETRIES, None):
            try:
                await self._hooks.notify(notification.address, namespace, body)
            except ProviderError as error:
                if wait is None:
                    log.warning("notification %s failed: %s", notification.name, error)
                    return
                await asyncio.sleep(wait)
            else:
                return
