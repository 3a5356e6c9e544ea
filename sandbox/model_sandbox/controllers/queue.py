"""Controllers as queues of keys: one that changed is looked at, never twice at once, and again if that failed.

`base.py` makes one for each kind; node, proxy and gateway have their own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Self

import aiohttp

from model_sandbox.cache import Cache, Key, controller_of, key_of
from model_sandbox.client import ApiFailure, Obj

log = logging.getLogger(__name__)
# Conflicts, and parts that are not up yet: trying again helps. What goes on like that is told.
_USUAL_FAILURES = 10
Reconcile = Callable[[Key], Awaitable[float | None]]
Keys = Callable[[Obj], Iterable[Key]]


def itself(body: Obj) -> Iterable[Key]:
    """The key of the object that changed."""
    return [key_of(body)]


def owner_of(kind: str) -> Keys:
    """The key of the controller of that kind which an object has."""

    def keys(body: Obj) -> Iterable[Key]:
        owner = controller_of(body)
        return [(key_of(body)[0], owner["name"])] if owner is not None and owner["kind"] == kind else []

    return keys


class Controller:
    """Runs `reconcile` for keys that were put in. Its answer is the seconds after which to look again."""

    def __init__(self, name: str, reconcile: Reconcile) -> None:
        self.name = name
        self._reconcile = reconcile
        self._dirty: dict[Key, None] = {}
        self._wake = asyncio.Event()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}

    def put(self, key: Key) -> None:
        """Have a key looked at soon."""
        self._dirty[key] = None
        self._wake.set()

    def hears(self, cache: Cache, keys: Keys = itself) -> Self:
        """Have what an object's change is about looked at."""

        def hear(old: Obj | None, new: Obj | None) -> None:
            for body in (old, new):
                for key in keys(body) if body is not None else ():
                    self.put(key)

        cache.listen(hear)
        return self

    async def run(self) -> None:
        """Work for ever."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._dirty:
                    key = next(iter(self._dirty))
                    del self._dirty[key]
                    await self._once(key)
                    await asyncio.sleep(0)  # a look at what is fine already waits for nothing; others have their turn
        finally:
            for timer in self._timers.values():
                timer.cancel()

    async def _once(self, key: Key) -> None:
        try:
            again = await self._reconcile(key)
            self._failures.pop(key, None)
        except Exception as error:  # whatever it is, the other keys must not suffer
            if not isinstance(error, ApiFailure | aiohttp.ClientError | OSError):
                log.exception("%s %s failed", self.name, key)
            count = self._failures[key] = self._failures.get(key, 0) + 1
            level = logging.WARNING if count > _USUAL_FAILURES else logging.DEBUG
            log.log(level, "%s %s: %s", self.name, key, error)
            again = min(0.01 * 2 ** min(count, 10), 10.0)
        if again is not None:
            self._later(key, again)

    def _later(self, key: Key, seconds: float) -> None:
        """Have a key looked at after a while; an earlier appointment stays."""
        loop, known = asyncio.get_running_loop(), self._timers.get(key)
        if known is None or known.when() > loop.time() + seconds:
            if known is not None:
                known.cancel()
            self._timers[key] = loop.call_later(seconds, self._due, key)

    def _due(self, key: Key) -> None:
        del self._timers[key]
        self.put(key)
