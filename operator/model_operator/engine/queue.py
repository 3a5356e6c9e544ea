"""A work queue of keys, as in client-go: each key is queued at most once and processed by one worker at a time.

Changes by users have priority (https://pkg.go.dev/k8s.io/client-go/util/workqueue)."""

import asyncio
import itertools
import random
from collections.abc import Callable
from enum import IntEnum

from model_operator.api.resource import ObjectKey

FIRST_RETRY = 0.2
FIRST_CONFLICT_RETRY = 0.05
LONGEST_RETRY = 60.0
#: Seconds within which changes of the children of one resource are coalesced into one pass:
#: pods change several times at their start, and every pass may write the status.
COALESCE_SECONDS = 0.1


class Priority(IntEnum):
    """Priority of a key: changes by users before changes in the cluster, and those before a resync."""

    SPEC = 0
    CHILD = 1
    RESYNC = 2


class WorkQueue:
    """Keys to reconcile. Additions while a key is processed coalesce into one more pass."""

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
        """Number of keys whose last pass failed."""
        return len(self._failures)

    def add(self, key: ObjectKey, urgency: Priority = Priority.CHILD) -> None:
        """Enqueue a key now."""
        waiting = self._waiting.get(key)
        if waiting is not None and waiting <= urgency:
            return
        self._waiting[key] = urgency
        if key not in self._busy:
            self._ready.put_nowait((urgency, next(self._order), key))

    def add_debounced(self, key: ObjectKey) -> None:
        """Enqueue a key after a delay that coalesces related changes."""
        if key not in self._gathering and key not in self._waiting:
            self._gathering[key] = asyncio.get_running_loop().call_later(COALESCE_SECONDS, self._gathered, key)

    def add_after(self, key: ObjectKey, seconds: float) -> None:
        """Enqueue a key after a delay; this replaces an earlier timer of the key."""
        self.cancel_timer(key)
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self._ring, key)

    def cancel_timer(self, key: ObjectKey) -> None:
        """Cancel the timer of `add_after`."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    async def get(self) -> ObjectKey:
        """Wait for the next key and mark it as in process; the caller must call `done`."""
        while True:
            urgency, _, key = await self._ready.get()
            # An entry is stale when an entry of higher priority was processed meanwhile.
            if key not in self._busy and self._waiting.get(key) == urgency:
                del self._waiting[key]
                self._busy.add(key)
                return key

    def done(self, key: ObjectKey) -> None:
        """Mark the pass over a key as finished."""
        self._busy.discard(key)
        urgency = self._waiting.get(key)
        if urgency is not None:
            self._ready.put_nowait((urgency, next(self._order), key))

    def succeeded(self, key: ObjectKey) -> None:
        """Forget earlier failures of a key."""
        self._failures.pop(key, None)

    def retry(self, key: ObjectKey, *, is_conflict: bool, retry_after: float | None) -> float:
        """Enqueue a failed key with exponential backoff and jitter; return the delay in seconds.

        A Retry-After of the server is a lower bound. A conflict (the cache is stale) starts with a shorter delay.
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
