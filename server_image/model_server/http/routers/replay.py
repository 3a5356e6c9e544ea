"""The routes of a replay on the comparison port: stable's recent requests, and what a candidate answers to them."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response
from msgspec import Meta

from model_server.dataplane import DataPlane
from model_server.errors import InvalidInput
from model_server.http.body import BodyTimeouts, RequestLimits, read_body
from model_server.monitoring.request_log import MOST_REQUESTS
from model_server.protocols.payload import Payload
from model_server.replay import Agreement, Replay

REQUESTS_PATH, REPLAY_PATH = "/shadow/requests", "/shadow/replay"
#: Of a document of requests with their answers, in both directions.
MOST_BYTES = 8 * 2**20
#: For all calls of the model of one request; the operator waits a little longer.
SECONDS = 25.0
_ASKED = RequestLimits(max_bytes=4096, timeout_seconds=5)
#: The sample, and what is asked about it.
_SENT = RequestLimits(max_bytes=MOST_BYTES + 2**16, timeout_seconds=15)

S = TypeVar("S", bound=msgspec.Struct)
_Count = Annotated[int, Meta(ge=1, le=MOST_REQUESTS)]
_Positive = Annotated[float, Meta(gt=0, le=1e9)]
_Size = Annotated[int, Meta(ge=0, le=2**53)]


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keep so many `requests` for so many `seconds`; answer so many of those that are kept."""

    requests: _Count
    seconds: Annotated[float, Meta(gt=0, le=600)]
    answer: Annotated[int, Meta(ge=0, le=MOST_REQUESTS)] = 0


class Tensor(msgspec.Struct, frozen=True):
    """A tensor of a request."""

    datatype: Annotated[str, Meta(pattern="^(BOOL|U?INT(8|16|32|64)|FP(16|32|64)|BYTES)$")]
    shape: Annotated[list[_Size], Meta(min_length=1, max_length=16)]
    data: list[Any]


class Recorded(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request of stable's document, with stable's answer."""

    size: _Size
    seconds: Annotated[float, Meta(ge=0)]
    instances: list[Any] | msgspec.UnsetType = msgspec.UNSET
    tensors: dict[str, Tensor] | msgspec.UnsetType = msgspec.UNSET
    numbers: list[float | None] | msgspec.UnsetType = msgspec.UNSET
    labels: list[str] | msgspec.UnsetType = msgspec.UNSET


class Sent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sample, and how its answers are compared."""

    requests: Annotated[list[Recorded], Meta(min_length=1, max_length=MOST_REQUESTS)]
    tolerance: Annotated[float, Meta(ge=0)] = 0.0
    relative: bool = False
    max_ratio: _Positive = msgspec.field(name="maxRatio", default=1.0)


def add_replay(router: APIRouter, plane: DataPlane) -> None:
    """Serve the two routes; the router checks who asks."""
    timeouts = BodyTimeouts(_SENT.timeout_seconds)

    async def body(request: Request, limits: RequestLimits, kind: type[S]) -> S:
        headers = request.scope["request_headers"]
        content = await read_body(headers, request.receive, limits, timeouts, request.scope["started"])
        return read(Payload(content, headers).json(), kind)

    @router.post(REQUESTS_PATH)
    async def requests(request: Request) -> Response:
        question = await body(request, _ASKED, Question)
        serving = plane.lifecycle.serving
        log = serving.observer.requests
        log.ask(requests=question.requests, seconds=question.seconds)
        answer: dict[str, Any] = {"kept": log.kept}
        if question.answer:
            replay = Replay(serving.loaded, serving.batcher)
            sample = log.newest(question.answer)
            answer["requests"] = await replay.answered(sample, seconds=SECONDS, most_bytes=MOST_BYTES)
        return Response(orjson.dumps(answer), media_type="application/json")

    @router.post(REPLAY_PATH)
    async def replay(request: Request) -> Response:
        sent = await body(request, _SENT, Sent)
        serving = plane.lifecycle.serving
        how = Agreement(tolerance=sent.tolerance, relative=sent.relative, max_ratio=sent.max_ratio)
        recorded = [msgspec.to_builtins(one) for one in sent.requests]
        comparison = await Replay(serving.loaded, serving.batcher).compared(recorded, how, seconds=SECONDS)
        return Response(orjson.dumps(comparison.document), media_type="application/json")


def read(document: Any, kind: type[S]) -> S:
    """A body as `kind`. Raises InvalidInput that names the field."""
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        raise InvalidInput.at(place.strip(".`"), message) from None
