"""A queue of keys: each waits at most once, none is worked on twice at the same time, people come first."""

import asyncio
import itertools
import random
from collections.abc import Callable
from enum import IntEnum

from model_operator.api.resource import ObjectKey

FIRST_RETRY = 0.2
FIRST_CONFLICT_RETRY = 0.05
LONGEST_RETRY = 60.0
#: What the cluster does to one resource's children within so many seconds is looked at once:
#: pods come and change several times at their start, and every look may be a write of status.
COALESCE_SECONDS = 0.1


class Priority(IntEnum):
    """Who is served first: a person's change before what the cluster did, and that before a resync."""

    SPEC = 0
    CHILD = 1
    RESYNC = 2


class WorkQueue:
    """Keys to reconcile. Wakes while a key is worked on coalesce into one more pass."""

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._ready: asyncio.PriorityQueue[tuple[int, int, ObjectKey]] = asyncio.PriorityQueue()
        self._order = itertools.count()
        self._waiting: dict[ObjectKey, Priority] = {}
        self._busy: set[ObjectKey] = set()
        self._timers: dict[ObjectKey, asyncio.TimerHandle] = {}
        self._gathering: dict[ObjectKey, asyncio.TimerHandle] = {}
        self._failures: dict[ObjectKey, int] = {}
        self._uniform = uniform

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def failing(self) -> int:
        """How many keys failed at their last try."""
        return len(self._failures)

    def add(self, key: ObjectKey, urgency: Priority = Priority.CHILD) -> None:
        """Ask for a pass over a key, now."""
        known = self._waiting.get(key)
        if known is not None and known <= urgency:
            return
        self._waiting[key] = urgency
        if key not in self._busy:
            self._ready.put_nowait((urgency, next(self._order), key))

    def add_debounced(self, key: ObjectKey) -> None:
        """Ask for a pass over a key after what usually comes together has come together."""
        if key not in self._gathering and key not in self._waiting:
            self._gathering[key] = asyncio.get_running_loop().call_later(COALESCE_SECONDS, self._gathered, key)

    def add_after(self, key: ObjectKey, seconds: float) -> None:
        """Ask for a pass over a key in a while; it replaces an earlier wish of this kind."""
        self.cancel_timer(key)
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self._ring, key)

    def cancel_timer(self, key: ObjectKey) -> None:
        """Take back what `add_after` asked for."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    async def get(self) -> ObjectKey:
        """Wait for the next key and mark it as worked on; `done` has to follow."""
        while True:
            urgency, _, key = await self._ready.get()
            # An entry is stale when the key was taken by a more urgent one meanwhile.
            if key not in self._busy and self._waiting.get(key) == urgency:
                del self._waiting[key]
                self._busy.add(key)
                return key

    def done(self, key: ObjectKey) -> None:
        """Say that the pass over a key is over."""
        self._busy.discard(key)
        urgency = self._waiting.get(key)
        if urgency is not None:
            self._ready.put_nowait((urgency, next(self._order), key))

    def succeeded(self, key: ObjectKey) -> None:
        """Forget earlier failures of a key."""
        self._failures.pop(key, None)

    def retry(self, key: ObjectKey, *, is_conflict: bool, retry_after: float | None) -> float:
        """Wake a key that failed after a while that grows with each failure, with jitter; return the seconds.

        What the server asked for in Retry-After is obeyed. A conflict only means that our look was old.
        """
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        first = FIRST_CONFLICT_RETRY if is_conflict else FIRST_RETRY
        longest = min(first * 2 ** min(failures, 20), LONGEST_RETRY)
        seconds = max(self._uniform(longest / 2, longest), retry_after or 0.0)
        self.add_after(key, seconds)
        return seconds

    def close(self) -> None:
        """Stop all timers."""
        for timer in (*self._timers.values(), *self._gathering.values()):
            timer.cancel()
        self._timers.clear()
        self._gathering.clear()

    def _gathered(self, key: ObjectKey) -> None:
        self._gathering.pop(key, None)
        self.add(key)

    def _ring(self, key: ObjectKey) -> None:
        self._timers.pop(key, None)
        self.add(key)
