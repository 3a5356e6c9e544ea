"""Concurrent polls of many resources in which the error of one does not stop the others."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from model_operator.api.resource import ObjectKey

log = logging.getLogger(__name__)


async def each(keys: Iterable[ObjectKey], poll: Callable[[ObjectKey], Awaitable[None]]) -> None:
    """Poll all resources concurrently; log the error of one, which is polled again the next time."""

    async def guarded(key: ObjectKey) -> None:
        try:
            await poll(key)
        except Exception:
            log.exception("%s/%s: the poll failed unexpectedly", *key)

    await asyncio.gather(*(guarded(key) for key in keys))
