"""The control plane of the sandbox: the API server, ready for use. `up`, `apiserver` and the tests start it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from model_sandbox.apiserver.auth import MASTERS, RBAC, Tokens, User
from model_sandbox.apiserver.kinds import builtin_registry
from model_sandbox.apiserver.resources import Resources, Warnings, Write
from model_sandbox.apiserver.server import ApiServer
from model_sandbox.apiserver.store import Store

SERVICE_NETWORK = "127.96.0.0/16"
POD_NETWORK = "127.64.0.0/12"
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running API server."""

    url: str
    token: str
    server: ApiServer

    async def first_account(self) -> None:
        """Wait until a pod may be created: the controllers have made the default ServiceAccount."""
        changed = asyncio.Event()
        shelf = self.server.store.shelf("serviceaccounts")
        shelf.listeners.add(changed.set)
        while self.server.store.get("serviceaccounts", ("default", "default")) is None:
            await changed.wait()
            changed.clear()
        shelf.listeners.discard(changed.set)

    @property
    def user_url(self) -> str:
        """The URL for a person's kubeconfig: kubectl sends tokens over plain HTTP in the path alone."""
        return f"{self.url}/as/{self.token}"


def bootstrap(resources: Resources) -> None:
    """What every cluster has from its first second: namespaces and the role of its administrators."""
    write = Write("kube-apiserver", resources.now())
    role = {
        "metadata": {"name": "cluster-admin"},
        "rules": [
            {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
            {"nonResourceURLs": ["*"], "verbs": ["*"]},
        ],
    }
    binding = {
        "metadata": {"name": "cluster-admin"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "Group", "name": MASTERS, "apiGroup": RBAC}],
    }
    objects: list[tuple[str, str, dict[str, Any]]] = [
        ("", "namespaces", {"metadata": {"name": name}}) for name in NAMESPACES
    ]
    objects += [(RBAC, "clusterroles", role), (RBAC, "clusterrolebindings", binding)]
    for group, plural, body in objects:
        kind = resources.registry.kinds[group, "v1", plural]
        if resources.store.get(kind.storage, ("", body["metadata"]["name"])) is None:
            decoded = resources.decode(kind, body, write, Warnings())
            resources.create(kind, "", decoded, write)


@asynccontextmanager
async def control_plane(
    *, port: int = 0, host: str = "127.0.0.1", token: str = "", extra_users: dict[str, User] | None = None
) -> AsyncIterator[ControlPlane]:
    """Serve an API server on loopback until the context ends."""
    token = token or secrets.token_urlsafe(32)
    admin = User("kubernetes-admin", (MASTERS, "system:authenticated"))
    tokens = Tokens({token: admin, **(extra_users or {})}, secrets.token_bytes(32))
    resources = Resources(Store(), builtin_registry(), SERVICE_NETWORK, clock=lambda: datetime.now(UTC))
    bootstrap(resources)
    server = ApiServer(resources.store, resources.registry, tokens, resources)
    runner = web.AppRunner(server.app(), handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound = runner.addresses[0][1]
        yield ControlPlane(f"http://{host}:{bound}", token, server)
    finally:
        await runner.cleanup()
