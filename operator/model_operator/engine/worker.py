"""The worker of a queue: takes keys, reconciles them, and decides by the outcome when each comes back."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from model_operator.api.resource import ObjectKey
from model_operator.engine.concurrency import logged
from model_operator.engine.queue import WorkQueue
from model_operator.errors import ApiError

log = logging.getLogger(__name__)


class PassOutcome(StrEnum):
    """How a pass over one resource ended; the label of its metric."""

    OK = "ok"
    TERMINATING = "terminating"  # the namespace is being deleted
    CONFLICT = "conflict"
    ERROR = "error"
    BUG = "bug"


class Reconciles(Protocol):
    """Reconciles resources of one kind."""

    async def reconcile(self, key: ObjectKey, /) -> timedelta | None:
        """Do one pass; the time until the next one: None for no timer, zero for at once."""

    async def report_bug(self, key: ObjectKey, error: Exception, /) -> None:
        """Report an unexpected error in the status."""


async def run_worker(queue: WorkQueue, work: Callable[[ObjectKey], Awaitable[object]]) -> None:
    """Work on one key after the other, until cancelled."""
    while True:
        key = await queue.get()
        try:
            with logged(f"the work on {key.namespace}/{key.name}"):
                await work(key)
        finally:
            queue.done(key)
        # A pass without a write never awaits: yield to the lease and the watches.
        await asyncio.sleep(0)


async def run_pass(queue: WorkQueue, key: ObjectKey, reconciler: Reconciles, kind: str) -> PassOutcome:
    """Reconcile one resource, and put it back into the queue when it has to be looked at again."""
    try:
        again = await reconciler.reconcile(key)
    except ApiError as error:
        if error.is_namespace_terminating:
            # Its own deletion follows, and the watch reports it.
            queue.succeeded(key)
            queue.cancel_timer(key)
            return PassOutcome.TERMINATING
        wait = queue.retry(key, is_conflict=error.is_conflict, retry_after=error.retry_after)
        level = logging.DEBUG if error.is_conflict or error.is_unreachable else logging.WARNING
        log.log(level, "%s %s/%s: %s; retry in %.1f s", kind, *key, error, wait)
        return PassOutcome.CONFLICT if error.is_conflict else PassOutcome.ERROR
    except Exception as error:
        # An unexpected error on one resource must not stop the others; its status and the log report it.
        wait = queue.retry(key, is_conflict=False, retry_after=None)
        log.exception("%s %s/%s: unexpected error; retry in %.1f s", kind, *key, wait)
        with contextlib.suppress(ApiError):
            await reconciler.report_bug(key, error)
        return PassOutcome.BUG
    queue.succeeded(key)
    if again is None:
        queue.cancel_timer(key)
    elif again:
        queue.add_after(key, again.total_seconds())
    else:
        queue.add(key)
    return PassOutcome.OK
