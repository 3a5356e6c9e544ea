"""Services on addresses of this machine: each connection goes to one of the ready endpoints.

`python -m model_sandbox proxy` and `up` start it. A Service's ClusterIP is bound for each of its TCP ports, where the
network allows it: on loopback (127.96.x.y) always. Which endpoints are ready is read from EndpointSlices; connections
that exist are left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from model_sandbox.cache import Cache, Key
from model_sandbox.client import Client, Connection, Obj
from model_sandbox.controllers.base import SERVICES, SLICES, Controller, enqueue
from model_sandbox.controllers.endpoints import SERVICE_LABEL
from model_sandbox.node.network import LOOPBACK, Network, NetworkError

log = logging.getLogger(__name__)
_CHUNK = 64 * 1024
Backend = tuple[str, int]


def backends(port_name: str, slices: list[Obj]) -> list[Backend]:
    """The addresses behind a Service's port: the ready ones, or those that still serve while they end."""
    ready: list[Backend] = []
    leaving: list[Backend] = []
    for one in slices:
        number = next((port["port"] for port in one.get("ports") or [] if port.get("name", "") == port_name), None)
        if number is None:
            continue
        for endpoint in one.get("endpoints") or []:
            conditions = endpoint.get("conditions") or {}
            found = [(address, number) for address in endpoint["addresses"]]
            if conditions.get("ready", True):
                ready.extend(found)
            elif conditions.get("serving") and conditions.get("terminating"):
                leaving.extend(found)
    return sorted(set(ready)) or sorted(set(leaving))


def service_of(one: Obj) -> str:
    """The Service that an EndpointSlice is about."""
    return str((one["metadata"].get("labels") or {}).get(SERVICE_LABEL, ""))


@dataclass(slots=True)
class _Listener:
    """One bound port of a Service."""

    address: Backend
    port_name: str
    backends: list[Backend] = field(default_factory=list)
    server: asyncio.Server | None = None


class ServiceProxy:
    """Keeps a listener for every port of every Service."""

    def __init__(self, services: Cache, slices: Cache, network: Network) -> None:
        self._services = services
        self._network = network
        self._slices = slices
        self._listeners: dict[Key, dict[Backend, _Listener]] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._controller = Controller("proxy", self._sync)
        enqueue(self._controller, services)
        slices.listeners.append(self._slice_changed)

    def _slice_changed(self, old: Obj | None, new: Obj | None) -> None:
        body: Obj = new or old or {}
        self._update((body["metadata"]["namespace"], service_of(body)))

    async def run(self) -> None:
        """Bind and close until cancelled."""
        try:
            await self._controller.run()
        finally:
            for listeners in self._listeners.values():
                for one in listeners.values():
                    if one.server is not None:
                        one.server.close()
            for writer in tuple(self._writers):
                writer.transport.abort()

    def _update(self, key: Key) -> None:
        slices = [one for one in self._slices.within(key[0]) if service_of(one) == key[1]]
        for listener in self._listeners.get(key, {}).values():
            listener.backends = backends(listener.port_name, slices)

    async def _sync(self, key: Key) -> float | None:
        again = None
        held = self._listeners.setdefault(key, {})
        wanted = _addresses(self._services.get(*key))
        for address in [one for one in held if one not in wanted]:
            listener = held.pop(address)
            if listener.server is not None:
                listener.server.close()
        for address, name in wanted.items():
            if address in held:
                held[address].port_name = name
                continue
            listener = held[address] = _Listener(address, name)
            try:
                if not await self._network.claim(address[0]):
                    continue
                listener.server = await asyncio.start_server(
                    lambda reader, writer, listener=listener: self._accept(listener, reader, writer),  # type: ignore[misc]
                    *address,
                )
            except (OSError, NetworkError) as error:
                log.warning("Service %s/%s: cannot bind %s:%s, trying again: %s", *key, *address, error)
                del held[address]
                again = 2.0
        self._update(key)
        if not held:
            self._listeners.pop(key, None)
        return again

    async def _accept(self, listener: _Listener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError):
                await self._serve(listener, reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _serve(self, listener: _Listener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        candidates = random.sample(listener.backends, len(listener.backends))
        for host, port in candidates:
            try:
                async with asyncio.timeout(5.0):
                    up_reader, up_writer = await asyncio.open_connection(host, port)
            except (OSError, TimeoutError):
                continue
            try:
                await asyncio.gather(_copy(reader, up_writer), _copy(up_reader, writer))
            finally:
                up_writer.close()
            return
        # No endpoint: refuse as a cluster does.
        writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction; its end is passed on as the end of that direction alone."""
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except ConnectionError:
        with contextlib.suppress(OSError):
            writer.transport.abort()


def _addresses(service: Obj | None) -> Mapping[Backend, str]:
    """What to bind for a Service: address and port, and the port's name."""
    if service is None:
        return {}
    spec = service["spec"]
    address = spec.get("clusterIP", "")
    if address in ("", "None"):
        return {}
    return {
        (address, port["port"]): port.get("name", "")
        for port in spec.get("ports") or []
        if port.get("protocol", "TCP") == "TCP"
    }


async def run(connection: Connection, network: Network = LOOPBACK) -> None:
    """Run the proxy until cancelled."""
    async with Client(connection, "kube-proxy/sandbox") as client, asyncio.TaskGroup() as tasks:
        services, slices = Cache(client, SERVICES), Cache(client, SLICES)
        proxy = ServiceProxy(services, slices, network)
        tasks.create_task(proxy.run())
        tasks.create_task(services.run())
        tasks.create_task(slices.run())
