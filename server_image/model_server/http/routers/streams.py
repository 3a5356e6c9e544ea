"""`infer_stream`: the steps of an answer as server-sent events, each with a V2 response, as MLServer has it.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from model_server.dataplane import DataPlane
from model_server.domain.model import InferenceRequest, LoadedModel
from model_server.errors import InvalidInput, RequestError
from model_server.http import schemas
from model_server.http.body import BodyTimeouts, RequestLimits, read_body
from model_server.http.keys import documented_key
from model_server.http.refusals import GONE, error_answer, to_response
from model_server.open_request import Disconnected
from model_server.protocols.payload import Answer, Payload
from model_server.protocols.v2 import Tensors
from model_server.statuses import error_document

_EVENTS = "text/event-stream"
_PATHS = {
    "v2_infer_stream": "/v2/models/{model:name}/infer_stream",
    "v2_infer_stream_version": "/v2/models/{model:name}/versions/{version:name}/infer_stream",
}


class JsonTensors(Tensors):
    """The codec of requests whose answers can only be JSON."""

    def decode(self, payload: Payload, loaded: LoadedModel, *, max_rows: int) -> InferenceRequest:
        """As for `infer`; raises InvalidInput for outputs that are wanted as bytes."""
        request = super().decode(payload, loaded, max_rows=max_rows)
        if request.all_binary or request.binary_outputs:
            raise InvalidInput.at("outputs", "cannot be bytes in a stream: leave binary_data out")
        return request


def create_router(plane: DataPlane, limits: RequestLimits) -> APIRouter:
    """More routes of the tag `v2`."""
    router = APIRouter(tags=["v2"])
    timeouts = BodyTimeouts(limits.timeout_seconds)
    codec = JsonTensors()

    async def infer_stream(request: Request) -> Response:
        scope, params = request.scope, request.path_params
        headers, started = scope["request_headers"], scope["started"]

        async def read() -> Payload:
            return Payload(await read_body(headers, request.receive, limits, timeouts, started), headers)

        steps = plane.stream(
            codec,
            read,
            headers=headers,
            identifier=scope["request_id"],
            operation=f"POST {scope['route'].path_format}",
            path=scope["path"],
            started=started,
            target=(params["model"], params.get("version", "")),
        )
        try:
            # What is refused before the first step has a status of its own.
            first = await anext(steps, None)
        except RequestError as error:
            return to_response(error_answer(error))
        except Disconnected:
            return to_response(GONE)
        return StreamingResponse(_events(first, steps), media_type=_EVENTS, headers={"cache-control": "no-cache"})

    for name, path in _PATHS.items():
        router.add_api_route(
            path,
            infer_stream,
            methods=["POST"],
            name=name,
            summary="Infer, and answer in steps (V2)",
            description="One event for each answer that `predict_stream` of a model.py yields; one for other models.",
            response_class=Response,
            responses={200: {"description": "Events, each with an `InferResponse`.", "content": {_EVENTS: {}}}},
            openapi_extra={"requestBody": schemas.json_body("InferRequest")},
            dependencies=documented_key(plane.authenticator),
        )
    return router


async def _events(first: Answer | None, steps: AsyncGenerator[Answer]) -> AsyncIterator[bytes]:
    async with aclosing(steps):
        if first is not None:
            yield _event(first.body)
        try:
            async for answer in steps:
                yield _event(answer.body)
        except RequestError as error:
            yield _event(orjson.dumps(error_document(error)))


def _event(document: bytes) -> bytes:
    return b"data: " + document + b"\n\n"
