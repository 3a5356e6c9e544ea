"""Services on addresses of this machine: each connection goes to one of the ready endpoints.

`python -m model_sandbox proxy` and `up` start it. A Service's ClusterIP is bound for each of its TCP ports, where the
network allows it: on loopback (127.96.x.y) always. Which endpoints are ready is read from EndpointSlices; connections
that exist are left alone.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable, Mapping

from model_sandbox.cache import Key
from model_sandbox.client import Obj
from model_sandbox.controllers.base import SERVICES, SLICES, Shared, World
from model_sandbox.controllers.endpoints import SERVICE_LABEL
from model_sandbox.controllers.labels import Labelled, labels_of
from model_sandbox.controllers.queue import Controller
from model_sandbox.node.network import Backend, Network, NetworkError, relay

log = logging.getLogger(__name__)
_RETRY = 2.0  # seconds


def service_of(one: Obj) -> Key:
    """The Service that an EndpointSlice is about."""
    return one["metadata"]["namespace"], labels_of(one).get(SERVICE_LABEL, "")


def backends(port_name: str, slices: Iterable[Obj]) -> list[Backend]:
    """The addresses behind a Service's port: the ready ones, or those that still serve while they end."""
    ready: set[Backend] = set()
    leaving: set[Backend] = set()
    for one in slices:
        numbers = [port["port"] for port in one.get("ports") or [] if port.get("name", "") == port_name]
        for endpoint in one.get("endpoints") or []:
            conditions = endpoint.get("conditions") or {}
            found = {(address, number) for address in endpoint["addresses"] for number in numbers}
            if conditions.get("ready", True):
                ready |= found
            elif conditions.get("serving") and conditions.get("terminating"):
                leaving |= found
    return sorted(ready or leaving)


def addresses(service: Obj | None) -> Mapping[Backend, str]:
    """What to bind for a Service: address and port, and the port's name."""
    spec = service["spec"] if service is not None else {}
    address = spec.get("clusterIP") or "None"
    ports = [port for port in spec.get("ports") or [] if port.get("protocol", "TCP") == "TCP"]
    return {(address, port["port"]): port.get("name", "") for port in ports} if address != "None" else {}


class ServiceProxy:
    """Keeps a listener for every port of every Service. Connections are tasks of the group."""

    def __init__(self, world: World, network: Network, tasks: asyncio.TaskGroup) -> None:
        self._services = world[SERVICES]
        self._slices = Labelled(world[SLICES])
        self._network = network
        self._tasks = tasks
        self._servers: dict[Key, dict[Backend, asyncio.Server | None]] = {}
        self._backends: dict[Backend, list[Backend]] = {}

    async def sync(self, key: Key) -> float | None:
        """Bind and close for one Service, and note what is behind it."""
        wanted, held = addresses(self._services.get(*key)), self._servers.pop(key, {})
        slices = self._slices.having(key[0], {SERVICE_LABEL: key[1]})
        for gone in held.keys() - wanted.keys():
            del self._backends[gone]
            _close(held.pop(gone))
        self._backends |= {address: backends(name, slices) for address, name in wanted.items()}
        if not wanted:
            return None
        self._servers[key] = held
        for address in wanted.keys() - held.keys():
            try:
                held[address] = await self._listen(address) if await self._network.claim(address[0]) else None
            except (OSError, NetworkError) as error:
                log.warning("Service %s/%s: cannot bind %s:%s, trying again: %s", *key, *address, error)
        return _RETRY if wanted.keys() - held.keys() else None

    async def _listen(self, address: Backend) -> asyncio.Server:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found = self._backends.get(address, [])
            self._tasks.create_task(relay(reader, writer, random.sample(found, len(found))))

        return await asyncio.start_server(accept, *address)

    def close(self) -> None:
        """Listen no more."""
        for held in self._servers.values():
            for server in held.values():
                _close(server)


def _close(server: asyncio.Server | None) -> None:
    if server is not None:
        server.close()


async def run(network: Network, shared: Shared) -> None:
    """Run the proxy until cancelled."""
    async with shared.world("kube-proxy/sandbox", SERVICES, SLICES) as world, asyncio.TaskGroup() as tasks:
        proxy = ServiceProxy(world, network, tasks)
        controller = Controller("proxy", proxy.sync).hears(world[SERVICES])
        try:
            await world.work(controller.hears(world[SLICES], lambda one: [service_of(one)]))
        finally:
            proxy.close()
