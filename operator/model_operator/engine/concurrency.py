"""Work on many resources side by side: one that is slow, or fails, delays and stops no other."""

import asyncio
import functools
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

from model_operator.api.resource import ObjectKey

log = logging.getLogger(__name__)


class KeyedTasks:
    """One task for each resource. A resource whose task still runs is skipped, and the others are not kept waiting."""

    def __init__(self) -> None:
        self._tasks: dict[ObjectKey, asyncio.Task[None]] = {}

    def start(self, keys: Iterable[ObjectKey], work: Callable[[ObjectKey], Awaitable[None]]) -> None:
        """Start the work on each resource on which none is going on; an error is logged, and ends that task alone."""
        for key in keys:
            if key not in self._tasks:
                task = asyncio.create_task(_guarded(key, work), name=f"{work.__qualname__} {key.namespace}/{key.name}")
                self._tasks[key] = task
                task.add_done_callback(functools.partial(self._forget, key))

    def _forget(self, key: ObjectKey, _: "asyncio.Task[None]") -> None:
        self._tasks.pop(key, None)

    def cancel_except(self, keys: Collection[ObjectKey]) -> None:
        """End the work on resources that are gone."""
        for key in self._tasks.keys() - set(keys):
            self._tasks[key].cancel()

    async def repeat(self, start: Callable[[], None], interval: float) -> None:
        """Call `start`, which starts what is due, every so many seconds until cancelled; then end all work."""
        try:
            while True:
                with logged("the start of background work"):
                    start()
                await asyncio.sleep(interval)
        finally:
            await self.close()

    async def settle(self) -> None:
        """Wait until all work that was started is over."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def close(self) -> None:
        """End all work."""
        for task in list(self._tasks.values()):
            task.cancel()
        await self.settle()


class Poller(ABC):
    """Looks every `interval` seconds at what is due, and works on it in a task for each resource."""

    def __init__(self, interval: float) -> None:
        self._interval, self._tasks = interval, KeyedTasks()

    async def run(self) -> None:
        """Look until cancelled."""
        await self._tasks.repeat(self._start_due, self._interval)

    async def poll(self) -> None:
        """Look once, and wait until the work on what is due is over."""
        self._start_due()
        await self.settle()

    async def settle(self) -> None:
        """Wait until the work that was started is over."""
        await self._tasks.settle()

    @abstractmethod
    def _start_due(self) -> None:
        """Start the work on what is due."""


def chosen(keys: Iterable[ObjectKey], is_chosen: Callable[[ObjectKey], bool]) -> list[ObjectKey]:
    """Return the resources for which it is so; one that the question fails on is logged, and is none of them."""
    found = []
    for key in keys:
        with logged(f"looking at {key.namespace}/{key.name}"):
            if is_chosen(key):
                found.append(key)
    return found


async def _guarded(key: ObjectKey, work: Callable[[ObjectKey], Awaitable[None]]) -> None:
    with logged(f"the background work on {key.namespace}/{key.name}"):
        await work(key)


@contextmanager
def logged(where: str) -> Iterator[None]:
    """Log an error that nobody foresaw, and go on: the operator works for all teams, and would end by it."""
    try:
        yield
    except Exception:
        log.exception("a bug in %s", where)
