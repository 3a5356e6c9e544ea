"""How many requests are in flight at a time, so that one team's servers that do not answer use up nobody else's room.

Engine and clients use it for what they ask of pods and of addresses that users name.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Bounds what is in flight: `of_one` for the resources of one namespace, and `of_all` for those of all."""

    def __init__(self, *, of_one: int, of_all: int) -> None:
        self._of_one, self._all = of_one, asyncio.Semaphore(of_all)
        self._ones: dict[str, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def of(self, namespace: str) -> AsyncIterator[None]:
        """Wait for a turn of a namespace, and hold it."""
        # In this order: those who wait for their namespace's take no turn of all.
        async with self._ones.setdefault(namespace, asyncio.Semaphore(self._of_one)), self._all:
            yield
