"""How evidence, gatekeeper and retrainer look at many resources: one that cannot be looked at stops no other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from model_operator.api.resource import ObjectKey

log = logging.getLogger(__name__)


async def each(keys: Iterable[ObjectKey], look: Callable[[ObjectKey], Awaitable[None]]) -> None:
    """Look at all of them at once; what goes wrong with one is logged, and it is looked at again the next time."""

    async def guarded(key: ObjectKey) -> None:
        try:
            await look(key)
        except Exception:
            log.exception("%s/%s: a bug in a look at it", *key)

    await asyncio.gather(*(guarded(key) for key in keys))
