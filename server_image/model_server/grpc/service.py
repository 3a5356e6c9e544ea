"""The gRPC server: the methods of the protocol, health and reflection. `server.py` starts and stops it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from model_server import version
from model_server.certificate import Tls
from model_server.dataplane import DataPlane
from model_server.errors import RequestError, SettingsInvalid
from model_server.grpc.messages import METHODS, SERVICE, message
from model_server.grpc.tensors import MessagePayload, Messages
from model_server.protocols.v2 import model_metadata
from model_server.request_ids import RequestIds
from model_server.statuses import STATUS_OF


class InferenceService:
    """Answers the protocol's methods from the data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._codec = Messages()
        self._ids = RequestIds()

    def handlers(self) -> grpc.GenericRpcHandler:
        """The methods by their names in the protocol."""
        by_name: dict[str, Any] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
            "ModelStreamInfer": self._model_stream_infer,
            "ModelStatistics": self._model_statistics,
        }
        methods = {
            method.name: (
                grpc.stream_stream_rpc_method_handler
                if method.server_streaming
                else grpc.unary_unary_rpc_method_handler
            )(
                by_name[method.name],
                request_deserializer=message(method.request).FromString,
                response_serializer=message(method.response).SerializeToString,
            )
            for method in METHODS
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _server_live(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def _server_ready(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        return message("ServerReadyResponse")(ready=self._plane.is_ready)

    async def _model_ready(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        is_ready = request.name == self._plane.name and self._plane.is_ready
        if is_ready and request.version:
            is_ready = request.version == self._plane.loaded.identity.version
        return message("ModelReadyResponse")(ready=is_ready)

    async def _server_metadata(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        return message("ServerMetadataResponse")(name="modeldeploy", version=version())

    async def _model_metadata(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            self._plane.authenticator.check(_headers(context))
            self._plane.require_model(request.name, request.version)
            described = model_metadata(self._plane.loaded)
            identity = self._plane.loaded.identity
        except RequestError as error:
            await _abort(context, error)
        properties = {"format": identity.format, "sha256": identity.sha256, "uri": identity.uri}
        return message("ModelMetadataResponse")(**described, properties=properties)

    async def _model_infer(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await self._plane.call(
                self._codec,
                _reader(request),
                headers=_headers(context),
                identifier=request.id.encode() or self._ids.of({}),
                operation=f"{SERVICE}/ModelInfer",
                path=f"/{SERVICE}/ModelInfer",
                started=time.perf_counter(),
                target=(request.model_name, request.model_version),
            )
        except RequestError as error:
            await _abort(context, error)

    async def _model_stream_infer(
        self, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[Any]:
        """Answer each request by one response or several, and a refused one by its error: the stream goes on."""
        answered = message("ModelStreamInferResponse")
        async for request in requests:
            steps = self._plane.stream(
                self._codec,
                _reader(request),
                headers=_headers(context),
                identifier=request.id.encode() or self._ids.of({}),
                operation=f"{SERVICE}/ModelStreamInfer",
                path=f"/{SERVICE}/ModelStreamInfer",
                started=time.perf_counter(),
                target=(request.model_name, request.model_version),
            )
            try:
                async with aclosing(steps):
                    async for response in steps:
                        yield answered(infer_response=response)
            except RequestError as error:
                yield answered(error_message=error.message)

    async def _model_statistics(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            self._plane.authenticator.check(_headers(context))
            self._plane.require_model(request.name or self._plane.name, request.version)
            found = self._plane.statistics()
        except RequestError as error:
            await _abort(context, error)
        return message("ModelStatisticsResponse")(model_stats=[found])


def _reader(request: Any) -> Callable[[], Awaitable[MessagePayload]]:
    async def read() -> MessagePayload:
        return MessagePayload(request)

    return read


def _headers(context: grpc.aio.ServicerContext) -> dict[bytes, bytes]:
    pairs = context.invocation_metadata() or ()
    return {key.encode(): value.encode() if isinstance(value, str) else value for key, value in pairs}


async def _abort(context: grpc.aio.ServicerContext, error: RequestError) -> None:
    await context.abort(grpc.StatusCode[STATUS_OF[type(error)].grpc], error.message)


class GrpcPort:
    """The gRPC server with its health service, which follows the lifecycle."""

    def __init__(self, service: InferenceService, *, host: str, port: int, tls: Tls, max_bytes: int) -> None:
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
