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
#: Seconds within which a new connection has to say whether it is TLS, or send the whole head of its request: no model
#: has more than one request of a connection, since each answer closes it.
_HEAD_SECONDS = 10.0
#: Bytes of a head; cookies and tokens together need a few thousand.
_MOST_HEAD = 64 * 1024
_END_OF_HEAD = b"\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
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
    """A new connection: its first byte says whether it is TLS or HTTP, and who goes on with it.

    HTTP goes on when the head is whole: the server behind has no limit for how long a client takes to send one.
    """

    def __init__(self, http: Callable[[], asyncio.Protocol] | None, carry: Callable[[End], None]) -> None:
        self._http, self._carry = http, carry
        self._head = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(_HEAD_SECONDS, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        # The end may lie across two pieces; what was searched before is not searched again.
        searched = max(0, len(self._head) - len(_END_OF_HEAD) + 1)
        self._head += data
        if self._head[0] == HANDSHAKE:
            end = End()
            self._go_on(end)
            self._carry(end)
        elif self._http is None:
            self._transport.abort()
        elif self._head.find(_END_OF_HEAD, searched, _MOST_HEAD + len(_END_OF_HEAD)) >= 0:
            self._go_on(self._http())
        elif len(self._head) > _MOST_HEAD:
            self._transport.write(_TOO_LARGE)
            self._transport.close()

    def _go_on(self, chosen: asyncio.Protocol) -> None:
        self._timer.cancel()
        self._transport.set_protocol(chosen)
        chosen.connection_made(self._transport)
        chosen.data_received(bytes(self._head))

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
