"""The sandbox inside a test's own event loop: an API server, and as much of the rest as the test needs.

async with sandbox(pods="instant", controllers=True) as s:
    ...  # s.url, s.token, s.kubeconfig
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from model_sandbox.apiserver.auth import User
from model_sandbox.client import Connection, write_kubeconfig
from model_sandbox.control_plane import control_plane
from model_sandbox.controllers import manager, scheduler
from model_sandbox.controllers.base import Part, run
from model_sandbox.node import kubelet
from model_sandbox.node.host import NodeSettings
from model_sandbox.node.network import LOOPBACK
from model_sandbox.proxy import gateway as gateways
from model_sandbox.proxy import services


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running sandbox."""

    url: str
    token: str
    kubeconfig: Path
    state: Path


@asynccontextmanager
async def sandbox(
    *,
    pods: str = "none",
    controllers: bool = False,
    proxy: bool = False,
    gateway: bool = False,
    images: Mapping[str, tuple[str, ...]] | None = None,
    backoff: float = 10.0,
    users: dict[str, User] | None = None,
) -> AsyncIterator[Sandbox]:
    """Run a sandbox until the context ends. `pods`: none, instant (Ready at once) or process.

    With controllers, the default namespace's ServiceAccount exists and, with pods, the node is Ready.
    """
    with tempfile.TemporaryDirectory(prefix="model-sandbox-") as folder:
        state = Path(folder)
        async with control_plane(extra_users=users) as plane:
            path = state / "kubeconfig"
            write_kubeconfig(path, plane.url, plane.token)
            parts: list[Part] = []
            wanted = []
            if controllers:
                parts.append(manager.run)
                wanted.append(plane.until_there("serviceaccounts", ("default", "default")))
            if gateway:
                parts.append(gateways.run)
            if proxy:
                parts.append(partial(services.run, LOOPBACK))
            if pods != "none":
                settings = NodeSettings(
                    state=state / "node", instant=pods == "instant", images=images or {}, backoff=backoff
                )
                parts += [scheduler.run, partial(kubelet.run, settings)]
                wanted.append(plane.until_there("nodes", ("", settings.name)))
            running: asyncio.Future[Any] = asyncio.create_task(run(Connection(plane.url, plane.token), *parts))
            starting = asyncio.gather(*wanted)
            try:
                await asyncio.wait({running, starting}, return_when=asyncio.FIRST_COMPLETED)
                if running.done():
                    running.result()
                yield Sandbox(plane.url, plane.token, path, state)
                if running.done():
                    running.result()
            finally:
                running.cancel()
                starting.cancel()
                await asyncio.gather(running, starting, return_exceptions=True)
