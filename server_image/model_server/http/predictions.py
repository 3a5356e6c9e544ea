"""The routes of predictions: each is a route of FastAPI's and, where its path is fixed, a fast path in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from fastapi import APIRouter, Request
from fastapi.responses import Response

from model_server.dataplane import Codec, ExplanationCodec
from model_server.errors import RequestError
from model_server.http.application import Application, Headers
from model_server.http.body import BodyTimeouts, Receive, Scope, read_body
from model_server.http.compression import ENCODING, accepts_gzip, compressed
from model_server.http.keys import documented_key
from model_server.http.refusals import GONE, error_answer, to_response
from model_server.open_request import Disconnected
from model_server.protocols.payload import Answer, Payload


class _Answering(Protocol):
    """Answers one request; `target` is the model and version in its path, where they are not known to be the own."""

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,
        headers: Headers,
        identifier: bytes,
        started: float,
        target: tuple[str, str] | None = None,
    ) -> Answer: ...


def _nothing(error: RequestError) -> Mapping[str, object]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionRoute:
    """One path of predictions: what serves it and what documents it.

    `{model}` and `{version}` in `path` are checked against the served model; a path with `{model}` alone is also
    served as a fast path under the model's own name.
    """

    path: str
    name: str
    summary: str
    codec: Codec[Payload, Answer] | ExplanationCodec[Payload, Answer]
    #: The content types that the body may have, each with the name of its schema in the document.
    bodies: dict[str, str]
    #: The name of the answer's schema.
    answer: str
    #: Other content types of the answer, each with the name of its schema.
    other_answers: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    #: Whether the contributions are asked for in place of the predictions; then the codec is one of explanations.
    explains: bool = False
    #: What an error says in this protocol beside what all say.
    error_fields: Callable[[RequestError], Mapping[str, object]] = _nothing


class Predictions:
    """Adds prediction routes to routers, and to the fast path of the application."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._timeouts = BodyTimeouts(app.limits.timeout_seconds)

    def add(self, router: APIRouter, route: PredictionRoute) -> None:
        """Serve the route, and document it."""
        answer = self._answering(route)

        async def endpoint(request: Request) -> Response:
            scope = request.scope
            params = request.path_params
            target = (params["model"], params.get("version", "")) if "model" in params else None
            answered = await answer(
                scope, request.receive, scope["request_headers"], scope["request_id"], scope["started"], target
            )
            if "model" in params and answered.status == 200:
                # A model's own name and version: from now on without the framework.
                self._serve_fast(scope["path"], answer)
            return to_response(answered)

        router.add_api_route(
            route.path,
            endpoint,
            methods=["POST"],
            name=route.name,
            summary=route.summary,
            description=route.description,
            response_class=Response,
            responses=_answers(route),
            openapi_extra={"requestBody": _request_body(route)},
            dependencies=documented_key(self._app.plane.authenticator),
        )
        if self._app.plane.name and "{version" not in route.path:
            self._serve_fast(route.path.replace("{model:name}", self._app.plane.name), answer)

    def _serve_fast(self, path: str, answer: _Answering) -> None:
        self._app.fast[path] = answer
        if self._app.root_path:
            # A gateway may keep the prefix in the path or cut it off.
            self._app.fast[self._app.root_path + path] = answer

    def _answering(self, route: PredictionRoute) -> _Answering:
        limits, timeouts = self._app.limits, self._timeouts
        # Each has the codec that its route is made with.
        plane: Any = self._app.plane
        call = plane.explain if route.explains else plane.call
        codec, operation = route.codec, f"POST {route.path.replace(':name}', '}')}"

        async def answer(
            scope: Scope,
            receive: Receive,
            headers: Headers,
            identifier: bytes,
            started: float,
            target: tuple[str, str] | None = None,
        ) -> Answer:
            async def read() -> Payload:
                return Payload(await read_body(headers, receive, limits, timeouts, started), headers)

            try:
                answered: Answer = await call(
                    codec,
                    read,
                    headers=headers,
                    identifier=identifier,
                    operation=operation,
                    path=scope["path"],
                    started=started,
                    target=target,
                )
                if 0 < limits.gzip_bytes <= len(answered.body) and accepts_gzip(headers):
                    return await _as_gzip(answered)
                return answered
            except RequestError as error:
                return error_answer(error, route.error_fields(error))
            except Disconnected:
                return GONE

        return answer


async def _as_gzip(answer: Answer) -> Answer:
    """The answer, compressed in a thread."""
    extra = [(ENCODING, b"gzip"), (b"vary", b"accept-encoding")]
    body = await asyncio.to_thread(compressed, answer.body)
    return replace(answer, body=body, headers=[*answer.headers, *extra])


def _request_body(route: PredictionRoute) -> dict[str, Any]:
    content = {kind: {"schema": _reference(schema)} for kind, schema in route.bodies.items()}
    return {"required": True, "content": content}


def _answers(route: PredictionRoute) -> dict[int | str, dict[str, Any]]:
    kinds = {"application/json": route.answer, **route.other_answers}
    content = {kind: {"schema": _reference(schema)} for kind, schema in kinds.items()}
    said = "The contributions of the features." if route.explains else "The predictions."
    return {200: {"description": said, "content": content}}


def _reference(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}
