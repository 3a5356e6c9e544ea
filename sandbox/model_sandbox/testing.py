"""The sandbox inside a test's own event loop: an API server, and as much of the rest as the test needs.

async with sandbox(pods="instant", controllers=True) as s:
    ...  # s.url, s.token, s.kubeconfig
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from model_sandbox.apiserver.auth import User
from model_sandbox.client import Connection, write_kubeconfig
from model_sandbox.control_plane import control_plane
from model_sandbox.controllers import manager
from model_sandbox.node import kubelet
from model_sandbox.node.kubelet import NodeSettings
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
            write_kubeconfig(path, plane.user_url, plane.token)
            connection = Connection(plane.url, plane.token)
            parts = []
            if controllers:
                parts.append(manager.run(connection))
            if pods != "none":
                settings = NodeSettings(
                    state=state / "node", instant=pods == "instant", images=images or {}, backoff=backoff
                )
                parts += [manager.schedule(connection), kubelet.run(connection, settings)]
            if proxy:
                parts.append(services.run(connection))
            if gateway:
                parts.append(gateways.run(connection))
            tasks = [asyncio.create_task(part) for part in parts]
            try:
                store = plane.server.store
                while (controllers and store.get("serviceaccounts", ("default", "default")) is None) or (
                    pods != "none" and store.get("nodes", ("", "sandbox-0")) is None
                ):
                    _raise_failed(tasks)
                    await asyncio.sleep(0.005)
                yield Sandbox(plane.url, plane.token, path, state)
                _raise_failed(tasks)
            finally:
                for task in tasks:
                    task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.gather(*tasks, return_exceptions=True)


def _raise_failed(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done() and not task.cancelled() and task.exception() is not None:
            raise RuntimeError("a part of the sandbox failed") from task.exception()
