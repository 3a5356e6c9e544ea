"""The requests to one model: they wait in line until a ready pod has room for them."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable

from model_operator.api.activation import Route


class CannotStart(Exception):
    """No pod of the model will become ready; the message says why."""


class LineFull(Exception):
    """As many requests wait as may; the message says how many."""


class Line:
    """Requests of one model in the order in which they came.

    `limit` bounds those that wait, and `per_pod` those that one pod has at once: a pod that just started must not get a
    thousand at the same time. `woken` is called with the seconds from the first waiting request to the first ready pod,
    and `changed` when the first request comes, or the last one is over.
    """

    def __init__(
        self, route: Route, *, limit: int, per_pod: int, woken: Callable[[float], None], changed: Callable[[], None]
    ) -> None:
        self.route, self._changed = route, changed
        self._limit, self._per_pod, self._woken = limit, per_pod, woken
        self._waiting: deque[asyncio.Future[str]] = deque()
        self._held = 0
        self._open: Counter[str] = Counter()
        self._asleep_since: float | None = None

    @property
    def held(self) -> int:
        """Number of requests that wait."""
        return self._held

    @property
    def requests(self) -> int:
        """Number of requests that wait or are being answered."""
        return self._held + self._open.total()

    def update(self, route: Route) -> None:
        """Take a new state of the model; requests go to its pods as far as there is room."""
        self.route = route
        if route.backends and self._asleep_since is not None:
            self._woken(time.monotonic() - self._asleep_since)
            self._asleep_since = None
        self._dispatch()

    async def enter(self) -> str:
        """Wait for a pod with room; return its URL, which `leave` gives back.

        Raises:
            LineFull: too many wait already.
            CannotStart: no pod will become ready.
        """
        if self._held >= self._limit:
            raise LineFull(f"{self._limit} requests wait for the model already")
        if not self.route.backends and self._asleep_since is None:
            self._asleep_since = time.monotonic()
        place: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._held += 1
        if self.requests == 1:
            self._changed()
        self._dispatch()
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self.leave(place.result())
            raise
        finally:
            self._held -= 1
            if not self.requests:
                self._changed()

    def leave(self, backend: str) -> None:
        """Give back the place of a request that is over."""
        self._open[backend] -= 1
        if not self._open[backend]:
            del self._open[backend]
        self._dispatch()
        if not self.requests:
            self._changed()

    def close(self) -> None:
        """Refuse what waits: the model is gone."""
        self.update(Route(namespace=self.route.namespace, name=self.route.name, port=0, problem="the model is gone"))

    def _dispatch(self) -> None:
        while self._waiting:
            if self._waiting[0].done():  # its client has gone
                self._waiting.popleft()
            elif self.route.problem and not self.route.backends:
                self._waiting.popleft().set_exception(CannotStart(self.route.problem))
            elif backend := self._least_loaded():
                self._open[backend] += 1
                self._waiting.popleft().set_result(backend)
            else:
                return

    def _least_loaded(self) -> str:
        """Return the pod with the fewest requests; empty if none has room."""
        backend = min(self.route.backends, key=self._open.__getitem__, default="")
        return backend if backend and self._open[backend] < self._per_pod else ""
