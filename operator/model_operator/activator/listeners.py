"""The listening ports of a model: one for HTTP, with or without TLS, and one for gRPC."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
from aiohttp import web

from model_operator.activator.calls import Calls
from model_operator.activator.gate import Gate
from model_operator.activator.splice import HANDSHAKE, End, Splices
from model_operator.api.activation import Route

#: Connections that wait to be accepted: a thousand clients may come at once.
_BACKLOG = 2048
#: Seconds within which a new connection has to say something; a check of whether the port is open wakes no model.
_SILENT = 10.0
#: Seconds at the end for calls whose answer is on its way.
_END_SECONDS = 2.0


@dataclass(slots=True)
class Open:
    """The open ports of a model; `end_calls` lets a server of gRPC end its calls."""

    end_calls: Callable[[grpc.aio.Server], None]
    sockets: list[asyncio.Server] = field(default_factory=list)
    calls: grpc.aio.Server | None = None

    async def stop(self) -> None:
        """Close them; what came before goes on."""
        for server in self.sockets:
            server.close()
        if self.calls is not None:
            self.end_calls(self.calls)
            await asyncio.sleep(0)


class Listeners:
    """Opens ports. Use it as an async context manager, which ends what is left."""

    def __init__(
        self, gate: Gate, http: web.Server, calls: Calls, splices: Splices, *, host: str, leave_seconds: float
    ) -> None:
        self._gate, self._http, self._calls, self._splices = gate, http, calls, splices
        self._host, self._leave_seconds = host, leave_seconds
        self._servers: set[grpc.aio.Server] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Listeners":
        return self

    async def __aexit__(self, *_: object) -> None:
        # A call gives its place in the line back just before its client has the answer.
        await asyncio.gather(*(server.stop(_END_SECONDS) for server in self._servers))
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def open(self, route: Route) -> Open:
        """Open the ports of a model.

        Raises:
            OSError: one is in use; then none is open.
        """
        found = Open(self._end_calls)
        try:
            found.sockets.append(await self._listen(route, route.port, None))
            if route.grpc_port and route.grpc_tls:
                found.sockets.append(await self._listen(route, route.grpc_listening, route.grpc_port))
            elif route.grpc_port:
                found.calls = await self._calls.serve(self._host, route)
                self._servers.add(found.calls)
        except OSError:
            await found.stop()
            raise
        return found

    async def _listen(self, route: Route, port: int, pod_port: int | None) -> asyncio.Server:
        """Listen for TLS, and on the port for HTTP for plain requests too."""
        has_http = pod_port is None

        def carry(client: End) -> None:
            line = self._gate.line(route.port)
            if line is None:
                client.refuse()
                return
            self._run(self._splices.carry(client, line, pod_port))

        def protocol() -> asyncio.Protocol:
            return _First(self._http if has_http else None, carry)

        loop = asyncio.get_running_loop()
        return await loop.create_server(protocol, self._host, port, backlog=_BACKLOG, reuse_address=True)

    def _end_calls(self, server: grpc.aio.Server) -> None:
        async def end() -> None:
            await server.stop(self._leave_seconds)
            self._servers.discard(server)

        self._run(end())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _First(asyncio.Protocol):
    """A new connection: its first byte says whether it is TLS or HTTP, and who goes on with it."""

    def __init__(self, http: Callable[[], asyncio.Protocol] | None, carry: Callable[[End], None]) -> None:
        self._http, self._carry = http, carry

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(_SILENT, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._timer.cancel()
        is_tls = data[0] == HANDSHAKE
        if not is_tls and self._http is None:
            self._transport.abort()
            return
        end = End() if is_tls else None
        chosen: asyncio.Protocol = end or self._http()  # type: ignore[misc]
        self._transport.set_protocol(chosen)
        chosen.connection_made(self._transport)
        chosen.data_received(data)
        if end is not None:
            self._carry(end)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
