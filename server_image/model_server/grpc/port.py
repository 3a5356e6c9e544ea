"""The gRPC port: a server with health and reflection, which `server.py` and the pool's `command.py` start and stop.

Below are what the services of a model and of a pool have in common.
"""

from __future__ import annotations

import re
from typing import Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from model_server.certificate import Tls
from model_server.errors import RequestError, SettingsInvalid
from model_server.grpc.messages import METHODS, SERVICE, message
from model_server.statuses import STATUS_OF

_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


class Service(Protocol):
    """The methods of the protocol."""

    def handlers(self) -> grpc.GenericRpcHandler: ...


class GrpcPort:
    """The gRPC server with its health service, which follows the lifecycle."""

    def __init__(self, service: Service, *, host: str, port: int, tls: Tls, max_bytes: int) -> None:
        options = [("grpc.max_receive_message_length", max_bytes), ("grpc.so_reuseport", 1)]
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((service.handlers(),))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if tls.pair is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(address, _credentials(tls))
        except RuntimeError as error:
            raise SettingsInvalid(
                f"cannot listen on {address}: {error}", hint="Set MODEL_SERVER_GRPC_PORT to a free port."
            ) from None

    async def start(self) -> None:
        """Listen; not serving yet."""
        await self.tell(serving=False)
        await self._server.start()

    async def tell(self, *, serving: bool) -> None:
        """What the health service answers from now on."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", SERVICE):
            await self._health.set(name, status)

    async def stop(self, grace_seconds: float) -> None:
        """Finish the calls in flight, for so long at most."""
        await self.tell(serving=False)
        await self._server.stop(grace_seconds)


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    def now() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([tls.pair])

    # Asked at each handshake, so that a renewed certificate is served.
    return grpc.dynamic_ssl_server_credentials(now(), now)


def handlers_of(service: Service, *, raw: frozenset[str] = frozenset()) -> grpc.GenericRpcHandler:
    """What answers the protocol's methods: `ModelInfer` is `service.model_infer`. Those in `raw` get and give bytes."""
    methods = {}
    for method in METHODS:
        make = grpc.stream_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
        is_raw = method.name in raw
        methods[method.name] = make(
            getattr(service, _CAPITAL.sub("_", method.name).lower()),
            request_deserializer=None if is_raw else message(method.request).FromString,
            response_serializer=None if is_raw else message(method.response).SerializeToString,
        )
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def headers_of(context: grpc.aio.ServicerContext) -> dict[bytes, bytes]:
    """The metadata of a call, as headers of a request."""
    pairs = context.invocation_metadata() or ()
    return {key.encode(): value.encode() if isinstance(value, str) else value for key, value in pairs}


async def abort(context: grpc.aio.ServicerContext, error: RequestError) -> None:
    """End a call with an error."""
    await context.abort(grpc.StatusCode[STATUS_OF[type(error)].grpc], error.message)
