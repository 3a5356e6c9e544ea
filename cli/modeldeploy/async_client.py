"""`modeldeploy.AsyncClient`: the methods of `Client` as coroutines.

Each runs in a thread, since the connection is a blocking one.
"""

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from modeldeploy.arguments import Duration, seconds_of
from modeldeploy.client import INTERVAL, Client, settled, unsettled
from modeldeploy.rollout import Rollout

P = ParamSpec("P")
R = TypeVar("R")


def _threaded(
    method: Callable[Concatenate[Client, P], R],
) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, R]]:
    @functools.wraps(method)
    async def call(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.to_thread(method, self.client, *args, **kwargs)

    return call


class AsyncClient:
    """The methods of `Client` as coroutines. Close it, or use it in `async with`."""

    def __init__(
        self, *, kubeconfig: Path | str | None = None, context: str | None = None, namespace: str | None = None
    ) -> None:
        self.client = Client(kubeconfig=kubeconfig, context=context, namespace=namespace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def wait(self, name: str, *, timeout: Duration = 600.0) -> Rollout:  # noqa: ASYNC109 - as `Client.wait`
        """Wait as `Client.wait`; whoever stops waiting leaves no thread behind that does."""
        seconds = seconds_of(timeout)
        deadline = time.monotonic() + seconds
        while True:
            rollout = await self.status(name)
            if (found := settled(rollout)) is not None:
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(unsettled(rollout, seconds))
            await asyncio.sleep(INTERVAL)

    close = _threaded(Client.close)
    deploy = _threaded(Client.deploy)
    patch = _threaded(Client.patch)
    status = _threaded(Client.status)
    models = _threaded(Client.models)
    predict = _threaded(Client.predict)
    feedback = _threaded(Client.feedback)
    promote = _threaded(Client.promote)
    abort = _threaded(Client.abort)
    retry = _threaded(Client.retry)
    undo = _threaded(Client.undo)
    pause = _threaded(Client.pause)
    delete = _threaded(Client.delete)
