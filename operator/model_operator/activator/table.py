"""The models of an activator: a line and a listening port for each, as the operator's routes have it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from model_operator.activator.line import Line
from model_operator.activator.metrics import Metrics
from model_operator.api.activation import Demand, Route, Routes

log = logging.getLogger(__name__)
#: Seconds between two answers about demand, within which changes are gathered.
_GATHERED = 0.02


class Listener(Protocol):
    """The listening ports of a model."""

    async def stop(self) -> None:
        """Close them."""


class Table:
    """Lines by port. `listen` opens the ports of a model."""

    def __init__(
        self, listen: Callable[[Route], Awaitable[Listener]], metrics: Metrics, *, most_per_model: int, per_pod: int
    ) -> None:
        self._listen, self._metrics = listen, metrics
        self._most_per_model, self._per_pod = most_per_model, per_pod
        self._lines: dict[int, Line] = {}
        self._listeners: dict[int, Listener] = {}
        self._digest = ""
        self._version = 0
        self._changed = asyncio.Event()
        self._applying = asyncio.Lock()

    @property
    def is_told(self) -> bool:
        """Whether the operator has told any routes."""
        return bool(self._digest)

    @property
    def held(self) -> int:
        """Number of requests that wait, for all models."""
        return sum(line.held for line in self._lines.values())

    def held_in(self, namespace: str) -> int:
        """Number of requests that wait for the models of a namespace."""
        return sum(line.held for line in self._lines.values() if line.route.namespace == namespace)

    def share_of(self, most: int) -> int:
        """Return how much of a limit for all models those of one namespace may use: the rest is for other teams'."""
        namespaces = {line.route.namespace for line in self._lines.values()}
        return most if len(namespaces) < 2 else max(1, most // 2)

    @property
    def requests(self) -> int:
        """Number of requests that wait or are being answered, for all models."""
        return sum(line.requests for line in self._lines.values())

    def line(self, port: int) -> Line | None:
        """Return the line of a port."""
        return self._lines.get(port)

    async def apply(self, routes: Routes) -> tuple[int, ...]:
        """Open and close ports, and update the lines; return the ports of the models whose ports are all open."""
        async with self._applying:
            wanted = {route.port: route for route in routes.routes}
            for port in self._lines.keys() - wanted.keys():
                await self._close(port)
            for port, route in wanted.items():
                line = self._lines.get(port)
                if line is not None and (line.route.namespace, line.route.name) != (route.namespace, route.name):
                    await self._close(port)
                    line = None
                if line is None:
                    self._lines[port] = self._make(route)
                else:
                    if line.route.ports != route.ports:
                        await self._stop(port)
                    line.update(route)
                if port not in self._listeners:
                    await self._open(route)
            self._digest = routes.digest
            return tuple(sorted(self._listeners))

    async def demand(self, after: int, seconds: float) -> Demand:
        """Return the demand as soon as its version is another one than `after`, or when the time is over."""
        if self._version == after:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), seconds)
            except TimeoutError:
                pass
            else:
                await asyncio.sleep(_GATHERED)
        held = {f"{line.route.namespace}/{line.route.name}": line.requests for line in self._lines.values()}
        return Demand(
            version=self._version, digest=self._digest, held={name: count for name, count in held.items() if count}
        )

    async def drained(self) -> None:
        """Wait until no request is left."""
        while self.requests:
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        """Close every port; open requests go on."""
        for port in list(self._listeners):
            await self._stop(port)

    def _demand_changed(self) -> None:
        self._version += 1
        self._changed.set()

    def _make(self, route: Route) -> Line:
        def woken(seconds: float) -> None:
            self._metrics.woken(route.namespace, route.name, seconds)

        return Line(route, limit=self._most_per_model, per_pod=self._per_pod, woken=woken, changed=self._demand_changed)

    async def _open(self, route: Route) -> None:
        try:
            self._listeners[route.port] = await self._listen(route)
        except OSError as error:
            log.error("cannot listen for %s/%s on port %s: %s", route.namespace, route.name, route.port, error)

    async def _stop(self, port: int) -> None:
        if (listener := self._listeners.pop(port, None)) is not None:
            await listener.stop()

    async def _close(self, port: int) -> None:
        line = self._lines.pop(port)
        await self._stop(port)
        line.close()
        self._metrics.forget(line.route.namespace, line.route.name)
