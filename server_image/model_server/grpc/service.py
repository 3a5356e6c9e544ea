"""The methods of the protocol over gRPC, answered from the data plane of one model; `port.py` serves them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc

from model_server import version
from model_server.dataplane import DataPlane
from model_server.errors import InvalidInput, OperationNotSupported, RequestError
from model_server.grpc.messages import SERVICE, message
from model_server.grpc.port import abort, handlers_of, headers_of
from model_server.grpc.tensors import MessagePayload, Messages
from model_server.protocols.v2 import model_metadata
from model_server.request_ids import RequestIds


class InferenceService:
    """Answers the protocol's methods from the data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._codec = Messages()
        self._ids = RequestIds()

    def handlers(self) -> grpc.GenericRpcHandler:
        """The methods of the protocol."""
        return handlers_of(self)

    async def server_live(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def server_ready(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        return message("ServerReadyResponse")(ready=self._plane.is_ready)

    async def model_ready(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        is_ready = request.name == self._plane.name and self._plane.is_ready
        if is_ready and request.version:
            is_ready = request.version == self._plane.loaded.identity.version
        return message("ModelReadyResponse")(ready=is_ready)

    async def server_metadata(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        return message("ServerMetadataResponse")(name="modeldeploy", version=version())

    async def model_metadata(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            self._plane.authenticator.check(headers_of(context))
            self._plane.require_model(request.name, request.version)
            described = model_metadata(self._plane.loaded)
            identity = self._plane.loaded.identity
        except RequestError as error:
            await abort(context, error)
        properties = {"format": identity.format, "sha256": identity.sha256, "uri": identity.uri}
        return message("ModelMetadataResponse")(**described, properties=properties)

    async def model_infer(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await self._plane.call(
                self._codec,
                _reader(request),
                headers=headers_of(context),
                identifier=request.id.encode() or self._ids.of({}),
                operation=f"{SERVICE}/ModelInfer",
                path=f"/{SERVICE}/ModelInfer",
                started=time.perf_counter(),
                target=(request.model_name, request.model_version),
            )
        except RequestError as error:
            await abort(context, error)

    async def model_stream_infer(
        self, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[Any]:
        """Answer each request by one response or several, and a refused one by its error: the stream goes on."""
        answered = message("ModelStreamInferResponse")
        async for request in requests:
            steps = self._plane.stream(
                self._codec,
                _reader(request),
                headers=headers_of(context),
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

    async def model_statistics(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            self._plane.authenticator.check(headers_of(context))
            self._plane.require_model(request.name or self._plane.name, request.version)
            found = self._plane.statistics()
        except RequestError as error:
            await abort(context, error)
        return message("ModelStatisticsResponse")(model_stats=[found])

    async def repository_index(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        plane = self._plane
        try:
            plane.authenticator.check(headers_of(context))
        except RequestError as error:
            await abort(context, error)
        lifecycle = plane.lifecycle
        own = {"name": plane.name, "version": plane.loaded.identity.version if lifecycle.has_model else ""}
        if plane.is_ready:
            own["state"] = "READY"
        else:
            own |= {"state": "UNAVAILABLE", "reason": f"{lifecycle.phase}: {lifecycle.message}"}
        return message("RepositoryIndexResponse")(models=[own] if plane.is_ready or not request.ready else [])

    async def repository_model_load(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            self._plane.authenticator.check(headers_of(context))
            self._plane.require_model(request.model_name)
            if request.parameters:
                raise InvalidInput.at("parameters", "expected none: this server's settings say how a model is loaded")
            _ = self._plane.loaded
        except RequestError as error:
            await abort(context, error)
        return message("RepositoryModelLoadResponse")()

    async def repository_model_unload(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            self._plane.authenticator.check(headers_of(context))
            self._plane.require_model(request.model_name)
            raise OperationNotSupported(f"this server serves {request.model_name!r} alone, and unloads it when it ends")
        except RequestError as error:
            await abort(context, error)


def _reader(request: Any) -> Callable[[], Awaitable[MessagePayload]]:
    async def read() -> MessagePayload:
        return MessagePayload(request)

    return read
