"""The control plane of the sandbox: the API server, ready for use. `up`, `apiserver` and the tests start it."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from model_sandbox.apiserver.auth import MASTERS, Tokens, User
from model_sandbox.apiserver.crds import DEFINITIONS
from model_sandbox.apiserver.journal import Journal
from model_sandbox.apiserver.kinds import builtin_registry
from model_sandbox.apiserver.reading import read
from model_sandbox.apiserver.requests import Write
from model_sandbox.apiserver.resources import Resources
from model_sandbox.apiserver.server import ApiServer
from model_sandbox.apiserver.store import Key, Store
from model_sandbox.apiserver.types import load_yaml
from model_sandbox.node.network import LOOPBACK

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running API server."""

    url: str
    token: str
    server: ApiServer

    async def until_there(self, resource: str, key: Key) -> None:
        """Wait for an object."""
        changed = asyncio.Event()
        shelf = self.server.store.shelf(resource)
        shelf.listeners.add(changed.set)
        while key not in shelf.entries:
            await changed.wait()
            changed.clear()
        shelf.listeners.discard(changed.set)


def bootstrap(resources: Resources) -> None:
    """Create what every cluster has from its first second, unless it is there."""
    write, kinds = Write("kube-apiserver", resources.now()), resources.registry.kinds.values()
    for body in load_yaml("bootstrap.yaml"):
        kind = next(one for one in kinds if (one.api_version, one.kind) == (body["apiVersion"], body["kind"]))
        if resources.store.get(kind.storage, ("", body["metadata"]["name"])) is None:
            resources.create(kind, "", read(kind, body, write), write)


def _credentials(state: Path | None, token: str) -> tuple[str, bytes]:
    """The administrator's token and the key that signs ServiceAccounts' tokens, kept in the state folder."""
    path = state / "credentials.json" if state is not None else None
    held = json.loads(path.read_text()) if path is not None and path.exists() else {}
    token = token or held.get("token") or secrets.token_urlsafe(32)
    key = held.get("key") or secrets.token_hex(32)
    if path is not None:
        path.touch(mode=0o600)
        path.write_text(json.dumps({"token": token, "key": key}))
    return token, bytes.fromhex(key)


@asynccontextmanager
async def control_plane(
    *,
    port: int = 0,
    token: str = "",
    state: Path | None = None,
    extra_users: dict[str, User] | None = None,
    services: str = LOOPBACK.services,
) -> AsyncIterator[ControlPlane]:
    """Serve an API server on loopback until the context ends; with `state`, from and into that folder.

    Services get their addresses from the network `services`.

    Raises ValueError for a state folder that cannot be read.
    """
    token, key = _credentials(state, token)
    admin = User("kubernetes-admin", (MASTERS, "system:authenticated"))
    tokens = Tokens({token: admin, **(extra_users or {})}, key)
    store, journal = Store(), Journal(state / "objects.db") if state is not None else None
    if journal is not None:
        journal.follow(store)
    resources = Resources(store, builtin_registry(), services, clock=lambda: datetime.now(UTC))
    for _, entry in store.scan(DEFINITIONS):
        resources.definitions.establish(entry.body)
    bootstrap(resources)
    server = ApiServer(resources.store, resources.registry, tokens, resources)
    runner = web.AppRunner(server.app(), handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, port)
        await site.start()
        bound = runner.addresses[0][1]
        yield ControlPlane(f"http://{HOST}:{bound}", token, server)
    finally:
        await runner.cleanup()
        if journal is not None:
            journal.close()
