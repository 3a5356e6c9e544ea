"""The methods of the protocol over gRPC, answered by a pool; `command.py` serves them where a port is set.

A worker reads the tensors of `ModelInfer`: here its message is looked at for the model's name and id alone.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import orjson

from model_server import version
from model_server.errors import InvalidInput, OperationNotSupported, RequestError
from model_server.grpc.messages import SERVICE, message
from model_server.grpc.port import abort, handlers_of, headers_of
from model_server.pool.codecs import CODECS
from model_server.pool.front import PoolPlane
from model_server.protocols.payload import Payload
from model_server.request_ids import RequestIds


class PoolService:
    """Answers the protocol's methods for the models of a list."""

    def __init__(self, plane: PoolPlane) -> None:
        self._plane = plane
        self._ids = RequestIds()

    def handlers(self) -> grpc.GenericRpcHandler:
        """The methods of the protocol."""
        return handlers_of(self, raw=frozenset({"ModelInfer"}))

    async def server_live(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def server_ready(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        return message("ServerReadyResponse")(ready=self._plane.is_ready)

    async def model_ready(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        entry = self._plane.pool.find(request.name)
        is_ready = self._plane.is_ready and entry is not None and entry.answers
        if entry is not None and request.version:
            is_ready = is_ready and entry.shown_version in ("", request.version)
        return message("ModelReadyResponse")(ready=is_ready)

    async def server_metadata(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        extensions = ["model_repository"]
        return message("ServerMetadataResponse")(name="modeldeploy", version=version(), extensions=extensions)

    async def model_metadata(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            self._plane.authenticator.check(headers_of(context))
            described = orjson.loads(await self._plane.pool.describe(request.name, request.version))
        except RequestError as error:
            await abort(context, error)
        return message("ModelMetadataResponse")(**described)

    async def model_infer(self, body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        try:
            return await self._infer(message("ModelInferRequest").FromString(body), body, "ModelInfer", context)
        except RequestError as error:
            await abort(context, error)
            raise

    async def model_stream_infer(
        self, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[Any]:
        """Answer each request by one response, and a refused one by its error: the stream goes on."""
        answered, infer = message("ModelStreamInferResponse"), message("ModelInferResponse")
        async for request in requests:
            try:
                body = await self._infer(request, request.SerializeToString(), "ModelStreamInfer", context)
                yield answered(infer_response=infer.FromString(body))
            except RequestError as error:
                yield answered(error_message=error.message)

    async def _infer(self, request: Any, body: bytes, method: str, context: grpc.aio.ServicerContext) -> bytes:
        headers = headers_of(context)

        async def read() -> Payload:
            return Payload(body, headers)

        answer = await self._plane.call(
            CODECS["grpc"],
            read,
            headers=headers,
            identifier=request.id.encode() or self._ids.of({}),
            operation=f"{SERVICE}/{method}",
            path=f"/{SERVICE}/{method}",
            started=time.perf_counter(),
            target=(request.model_name, request.model_version),
        )
        return answer.body

    async def model_statistics(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        error = OperationNotSupported("a pool keeps no statistics of V2", hint="GET /metrics has those of each model.")
        await abort(context, error)

    async def repository_index(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            self._plane.authenticator.check(headers_of(context))
        except RequestError as error:
            await abort(context, error)
        found = [one for one in self._plane.pool.entries if one.is_loaded or not request.ready]
        models = [
            {"name": one.name, "version": one.shown_version, "state": one.v2_state, "reason": one.reason}
            for one in found
        ]
        return message("RepositoryIndexResponse")(models=models)

    async def repository_model_load(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            self._plane.authenticator.check(headers_of(context))
            if request.parameters:
                raise InvalidInput.at("parameters", "expected none: the list of the pool says how a model is loaded")
            await self._plane.pool.load(request.model_name)
        except RequestError as error:
            await abort(context, error)
        return message("RepositoryModelLoadResponse")()

    async def repository_model_unload(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            self._plane.authenticator.check(headers_of(context))
            await self._plane.pool.unload(request.model_name)
        except RequestError as error:
            await abort(context, error)
        return message("RepositoryModelUnloadResponse")()
