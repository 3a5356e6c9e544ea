"""A running activator, its client, and the operator's way to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from free_ports import free_port
from waiting import eventually

from model_operator.activator.__main__ import run
from model_operator.activator.settings import Settings
from model_operator.api.activation import GRPC_BELOW, Demand, Route, Routes, activator_token
from model_operator.clients.activators import HttpActivators
from model_operator.errors import ProviderError

SECRET = b"0123456789abcdef0123456789abcdef"


@dataclass
class Scene:
    """A running activator, a client, and the operator's way to it."""

    port: int
    control: str
    metrics: str
    operator: HttpActivators
    client: aiohttp.ClientSession
    stop: asyncio.Event

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def tell(self, *backends: str, **more: Any) -> None:
        route = Route(namespace="shop", name="fraud", port=self.port, backends=backends, **more)
        bound = await self.operator.tell(self.control, Routes(routes=(route,)))
        assert bound.ports == (self.port,)

    async def tell_two(self) -> int:
        """Tell of a model of another namespace, too; return its port."""
        other = port_of_model()
        routes = (
            Route(namespace="shop", name="fraud", port=self.port),
            Route(namespace="bank", name="risk", port=other),
        )
        bound = await self.operator.tell(self.control, Routes(routes=routes))
        assert set(bound.ports) == {self.port, other}
        return other

    async def demand(self, after: int = -1) -> Demand:
        return await self.operator.demand(self.control, after)

    async def held(self, count: int) -> Demand:
        async def is_held() -> Demand | None:
            found = await self.demand()
            return found if found.held.get("shop/fraud", 0) == count else None

        return await eventually(is_held, f"{count} requests are held", seconds=10)

    async def outcomes(self) -> dict[str, float]:
        async with self.client.get(f"{self.metrics}/metrics") as response:
            lines = (await response.text()).splitlines()
        found = (line.rsplit(" ", 1) for line in lines if line.startswith("modeldeploy_activator_requests_total{"))
        return {name.split('outcome="')[1].split('"')[0]: float(value) for name, value in found}


@asynccontextmanager
async def activator(**settings: Any) -> AsyncIterator[Scene]:
    control, metrics, stop = free_port(), free_port(), asyncio.Event()
    given = Settings(
        token=activator_token(SECRET),
        host="127.0.0.1",
        control_port=control,
        metrics_port=metrics,
        **{"leave_seconds": 0, "hold_seconds": 20, **settings},
    )
    task = asyncio.create_task(run(given, stop))
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(aiohttp.ClientSession())
        nobody: Any = None
        operator = await stack.enter_async_context(HttpActivators(nobody, "modeldeploy", "activator", SECRET))
        urls = f"http://127.0.0.1:{control}", f"http://127.0.0.1:{metrics}"
        scene = Scene(port_of_model(), *urls, operator, client, stop)

        async def is_up() -> bool:
            try:
                await scene.demand()
            except ProviderError:
                return False
            return True

        await eventually(is_up, "the activator listens", seconds=10)
        try:
            yield scene
        finally:
            stop.set()
            await asyncio.wait_for(task, 10)


def port_of_model() -> int:
    """Return a free port that has a free one for gRPC below it."""
    while (port := free_port()) < 2 * GRPC_BELOW:
        pass
    return port
