"""Takes gRPC calls to models, and passes them on to ready pods: any method, message by message.

A server of gRPC and not a relay of bytes: clients give a connection up whose server says nothing, after 20 seconds by
default, and a call that is refused has to hear why. Connections are ended in good order after a few seconds, and open
calls go on: clients keep one for as long as it lasts, and the next has to lead to a pod.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from yarl import URL

from model_operator.activator.gate import CONNECT_SECONDS, Gate, Refused, Unreachable
from model_operator.activator.metrics import Outcome
from model_operator.api.activation import Route

_CONNECTION_MILLISECONDS = 5_000
_PING_MILLISECONDS = 10_000
#: Seconds before its deadline at which a call hears why it was not answered: its client would not wait for it.
_EARLIER = 0.1
_RETRY_MILLISECONDS = "5000"
#: Fields that gRPC writes itself.
_OWN = ("user-agent", "te", "content-type")
#: A pod that could not be reached is tried again soon.
_RECONNECT = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1_000)]
_Handler = Callable[[str, AsyncIterator[bytes], Any], Awaitable[None]]


class Calls:
    """Passes calls on. `most_bytes` bounds a message, which is in memory as a whole for a moment."""

    def __init__(self, gate: Gate, *, most_bytes: int) -> None:
        self._gate = gate
        self._sizes = [("grpc.max_receive_message_length", most_bytes), ("grpc.max_send_message_length", most_bytes)]

    async def serve(self, host: str, route: Route) -> grpc.aio.Server:
        """Listen for the calls to a model.

        Raises:
            OSError: the port is in use.
        """
        options = [
            *self._sizes,
            ("grpc.so_reuseport", 0),
            ("grpc.max_connection_age_ms", _CONNECTION_MILLISECONDS),
            ("grpc.http2.min_ping_interval_without_data_ms", _PING_MILLISECONDS),
            ("grpc.http2.lookahead_bytes", 16 * 1024),
            ("grpc.http2.bdp_probe", 0),
        ]
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers((_AnyMethod(self._handler(route.port)),))
        address = f"[{host}]:{route.grpc_listening}" if ":" in host else f"{host}:{route.grpc_listening}"
        try:
            server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(str(error)) from error
        await server.start()
        return server

    def _handler(self, port: int) -> _Handler:
        async def handle(method: str, requests: AsyncIterator[bytes], context: Any) -> None:
            line = self._gate.line(port)
            if line is None:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "no model has this port")
                return

            async def send(backend: str) -> Outcome:
                return await self._send(_target(backend, line.route.grpc_port), method, requests, context)

            within = _patience(context.time_remaining())
            try:
                with self._gate.counted(line) as ending:
                    ending.outcome = await self._gate.pass_on(line, send, within=within)
            except Refused as error:
                is_over = error.outcome is Outcome.TIMEOUT and within is not None and within < self._gate.hold_seconds
                code = grpc.StatusCode.DEADLINE_EXCEEDED if is_over else grpc.StatusCode.UNAVAILABLE
                await context.abort(code, error.message, (("grpc-retry-pushback-ms", _RETRY_MILLISECONDS),))

        return handle

    async def _send(self, target: str, method: str, requests: AsyncIterator[bytes], context: Any) -> Outcome:
        """Pass a call on, and its answers back; nothing of it is read before there is a connection."""
        async with grpc.aio.insecure_channel(target, options=[*self._sizes, *_RECONNECT]) as channel:
            await _connect(channel)
            fields = [(name, value) for name, value in context.invocation_metadata() or () if name not in _OWN]
            call = channel.stream_stream(method)(requests, timeout=context.time_remaining(), metadata=fields)
            try:
                await context.send_initial_metadata(tuple(await call.initial_metadata()))
                async for message in call:
                    await context.write(message)
            except grpc.aio.AioRpcError as error:
                context.set_code(error.code())
                context.set_details(error.details())
                context.set_trailing_metadata(tuple(error.trailing_metadata() or ()))
                # A connection that breaks has this code too.
                return Outcome.BROKEN if error.code() is grpc.StatusCode.UNAVAILABLE else Outcome.ANSWERED
            finally:
                call.cancel()
            context.set_trailing_metadata(tuple(await call.trailing_metadata()))
            return Outcome.ANSWERED


class _AnyMethod(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Leads every method to one handler; messages stay bytes, and every method is a stream of them on the wire."""

    def __init__(self, handle: _Handler) -> None:
        self._handle = handle

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = handler_call_details.method

        async def handle(requests: AsyncIterator[bytes], context: Any) -> None:
            await self._handle(method, requests, context)

        return grpc.stream_stream_rpc_method_handler(handle)


async def _connect(channel: grpc.aio.Channel) -> None:
    """Wait for the connection to a pod.

    Raises:
        Unreachable: there is none.
    """
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                    raise Unreachable
                await channel.wait_for_state_change(state)
    except TimeoutError as error:
        raise Unreachable from error


def _patience(left: float | None) -> float | None:
    """Return for how many seconds a call may wait whose deadline is `left` seconds away."""
    return None if left is None else max(0.0, left - min(_EARLIER, left / 10))


def _target(backend: str, port: int) -> str:
    """Return the address of a pod's gRPC port."""
    return str(URL(backend).with_port(port).authority)
