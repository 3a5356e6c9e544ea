"""The gRPC server: the six methods of the protocol, health and reflection. `server.py` starts and stops it."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from model_server import version
from model_server.app import STATUS_OF
from model_server.auth import Gate
from model_server.certificate import Tls
from model_server.errors import (
    DeadlineExceeded,
    InvalidInput,
    ModelNotReady,
    Overloaded,
    PredictionError,
    RequestError,
    RequestTooLarge,
    SettingsInvalid,
    Unauthorized,
    UnknownModel,
)
from model_server.http import RequestIds, RequestLimits
from model_server.lifecycle import Lifecycle, Phase
from model_server.oip.messages import METHODS, SERVICE, message
from model_server.oip.tensors import read_tensors, write_tensors
from model_server.protocols.call import Call
from model_server.protocols.v2 import model_metadata
from model_server.telemetry import Telemetry
from model_server.tracing import Trace, Tracer

log = logging.getLogger(__name__)

_Handler: TypeAlias = Callable[[Any, "grpc.aio.ServicerContext"], Awaitable[Any]]

GRPC_STATUS: Mapping[type[RequestError], grpc.StatusCode] = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    RequestTooLarge: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownModel: grpc.StatusCode.NOT_FOUND,
    Unauthorized: grpc.StatusCode.UNAUTHENTICATED,
    ModelNotReady: grpc.StatusCode.UNAVAILABLE,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    PredictionError: grpc.StatusCode.INTERNAL,
}


class InferenceService:
    """Answers the protocol's methods from the served model."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        telemetry: Telemetry,
        tracer: Tracer,
        gate: Gate,
        *,
        name: str,
        limits: RequestLimits,
    ) -> None:
        self._lifecycle = lifecycle
        self._telemetry = telemetry
        self._tracer = tracer
        self._gate = gate
        self._name = name
        self._limits = limits
        self._ids = RequestIds()

    def handlers(self) -> grpc.GenericRpcHandler:
        """The methods by their names in the protocol."""
        by_name: dict[str, _Handler] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
        }
        methods = {
            name: grpc.unary_unary_rpc_method_handler(
                by_name[name],
                request_deserializer=message(f"{name}Request").FromString,
                response_serializer=message(f"{name}Response").SerializeToString,
            )
            for name in METHODS
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _server_live(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def _server_ready(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        return message("ServerReadyResponse")(ready=self._is_ready)

    async def _model_ready(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        known = request.name == self._name
        return message("ModelReadyResponse")(ready=known and self._is_ready)

    async def _server_metadata(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        return message("ServerMetadataResponse")(name="modeldeploy", version=version())

    async def _model_metadata(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            self._gate.check(_headers(context))
            self._require_model(request.name, request.version)
            described = model_metadata(self._lifecycle.served.loaded)
        except RequestError as error:
            await _abort(context, error)
        return message("ModelMetadataResponse")(**described)

    async def _model_infer(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        started, code = time.perf_counter(), 500
        headers = _headers(context)
        self._telemetry.begin()
        trace = self._tracer.begin(headers)
        try:
            self._gate.check(headers)
            response = await self._infer(request, trace)
            code = 200
        except RequestError as error:
            code = STATUS_OF[type(error)]
            await _abort(context, error)
        finally:
            seconds = time.perf_counter() - started
            self._telemetry.end(code, seconds, trace.end(f"{SERVICE}/ModelInfer", code, began=started))
        return response

    async def _infer(self, request: Any, trace: Trace) -> Any:
        self._require_model(request.model_name, request.model_version)
        served = self._lifecycle.served
        loaded = served.loaded
        began = time.perf_counter()
        call = Call(inputs=loaded.layout.from_tensors(read_tensors(request, self._limits.max_rows)), id=request.id)
        self._telemetry.decoded(time.perf_counter() - began)
        known = [tensor.name for tensor in loaded.outputs]
        call.outputs = tuple(output.name for output in request.outputs)
        strange = [name for name in call.outputs if known and name not in known]
        if strange:
            raise InvalidInput.at("outputs", f"expected one of {', '.join(known)}, got {strange[0]!r}")
        call.probabilities = loaded.model.probabilities in call.outputs
        outputs = await served.batcher.submit(call.inputs, probabilities=call.probabilities, trace=trace)
        served.watcher.predicted(request.id.encode() or self._ids.of({}), call.inputs, outputs)
        began = time.perf_counter()
        response = message("ModelInferResponse")(
            model_name=loaded.identity.model, model_version=loaded.identity.version, id=request.id
        )
        write_tensors(response, outputs, call, raw=bool(request.raw_input_contents))
        self._telemetry.encoded(time.perf_counter() - began)
        return response

    @property
    def _is_ready(self) -> bool:
        return self._lifecycle.phase is Phase.READY and self._telemetry.is_ready_everywhere

    def _require_model(self, name: str, version: str) -> None:
        if name != self._name:
            raise UnknownModel(f"model {name!r} is not served here: this server serves {self._name!r}")
        if version and version != self._lifecycle.served.loaded.identity.version:
            raise UnknownModel(f"version {version!r} is not served here")


def _headers(context: grpc.aio.ServicerContext) -> dict[bytes, bytes]:
    pairs = context.invocation_metadata() or ()
    return {key.encode(): value.encode() if isinstance(value, str) else value for key, value in pairs}


async def _abort(context: grpc.aio.ServicerContext, error: RequestError) -> None:
    if error.__cause__ is not None:
        log.error(error.message, exc_info=error.__cause__)
    await context.abort(GRPC_STATUS[type(error)], error.message)


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
