"""A model's gRPC server, which knows any method."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from free_ports import free_port

INFER = "/inference.GRPCInferenceService/ModelInfer"
BODY = bytes(range(256)) * 1000


class Model(grpc.GenericRpcHandler):  # type: ignore[misc]
    """A model's gRPC server: it answers each message by the same, or ends the call as its name says."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.most_at_once = 0
        self._at_once = 0

    def service(self, details: Any) -> Any:
        name = details.method.rsplit("/", 1)[1]

        async def handle(requests: AsyncIterator[bytes], context: Any) -> None:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.seen.append({**dict(context.invocation_metadata()), "method": details.method})
            await context.send_initial_metadata((("x-model", "fraud"),))
            try:
                async for message in requests:
                    if name == "Refuses":
                        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such column", (("hint", "age"),))
                    await asyncio.sleep(0.02)
                    await context.write(message)
                context.set_trailing_metadata((("x-seconds", "0.1"),))
            finally:
                self._at_once -= 1

        return grpc.stream_stream_rpc_method_handler(handle)


@asynccontextmanager
async def model(credentials: Any = None, *, port: int = 0) -> AsyncIterator[tuple[Model, int]]:
    handler, server, port = Model(), grpc.aio.server(), port or free_port()
    server.add_generic_rpc_handlers((handler,))
    if credentials is None:
        server.add_insecure_port(f"127.0.0.1:{port}")
    else:
        server.add_secure_port(f"127.0.0.1:{port}", credentials)
    await server.start()
    try:
        yield handler, port
    finally:
        await server.stop(0)
