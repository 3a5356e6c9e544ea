"""Sends changes of phase to webhooks in the background, with retries, without blocking a reconcile."""

import asyncio
import logging
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
_QUEUED = 1_000
_AT_ONCE = 8


class Notifier:
    """A bounded queue of notifications. Those that do not fit, or fail after all retries, are dropped and logged."""

    def __init__(self, hooks: Webhooks, clock: Clock) -> None:
        self._hooks, self._clock = hooks, clock
        self._queue: asyncio.Queue[tuple[Notification, str, Mapping[str, Any]]] = asyncio.Queue(_QUEUED)

    def notify(self, resource: ModelDeployment, new: Status) -> None:
        """Queue the notifications for a change from the resource's status to a new one."""
        for notification in resource.spec.hooks.notifications:
            body = notice(notification, resource, new, self._clock.now())
            if body is None:
                continue
            try:
                self._queue.put_nowait((notification, resource.key.namespace, body))
            except asyncio.QueueFull:
                log.warning("notification %s was dropped: the queue is full", notification.name)

    async def run(self) -> None:
        """Send queued notifications until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(self._send_all())

    async def _send_all(self) -> None:
        while True:
            notification, namespace, body = await self._queue.get()
            await self._send(notification, namespace, body)

    async def _send(self, notification: Notification, namespace: str, body: Mapping[str, Any]) -> None:
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
