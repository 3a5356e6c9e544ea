"""Refusals as HTTP answers: the JSON of an error, and the exception handlers of the application."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from model_server.errors import (
    InvalidInput,
    MalformedRequest,
    MethodNotAllowed,
    PredictionError,
    Problem,
    RequestError,
    UnknownRoute,
)
from model_server.open_request import Disconnected, log_refusal
from model_server.protocols.payload import JSON, Answer
from model_server.statuses import CLIENT_GONE, STATUS_OF, error_document, error_fields

GONE = Answer(b"", status=CLIENT_GONE)


#: MLflow's names of statuses (mlflow.protos.databricks_pb2.ErrorCode).
_MLFLOW_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    404: "RESOURCE_DOES_NOT_EXIST",
    413: "BAD_REQUEST",
    415: "BAD_REQUEST",
    422: "INVALID_PARAMETER_VALUE",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def mlflow_error(error: RequestError) -> Mapping[str, object]:
    """What MLflow's clients read of an error."""
    code = STATUS_OF[type(error)].http
    return {"error_code": _MLFLOW_CODES.get(code, "BAD_REQUEST"), "message": error.message}


def error_answer(error: RequestError, more: Mapping[str, object] = MappingProxyType({})) -> Answer:
    """The answer to a refused request; `more` is what a protocol adds to the JSON."""
    status = STATUS_OF[type(error)].http
    headers = error_fields(error)
    if status in (408, 413):
        # The rest of the body is not wanted: the connection cannot be used again.
        headers.append((b"connection", b"close"))
    return Answer(orjson.dumps(error_document(error) | dict(more)), JSON, headers, status)


def to_response(answer: Answer) -> Response:
    """An answer as FastAPI's routes return it."""
    response = Response(answer.body, answer.status)
    response.raw_headers += [(b"content-type", answer.content_type), *answer.headers]
    return response


def add_exception_handlers(app: FastAPI) -> None:
    """Let every refusal, the framework's own too, be answered in the one form that this server has."""

    def refuse(request: Request, error: RequestError) -> Response:
        answer = error_answer(error)
        log_refusal(error, answer.status, request.scope["request_id"], request.scope["path"])
        return to_response(answer)

    async def on_refusal(request: Request, error: Exception) -> Response:
        if not isinstance(error, RequestError):
            raise error
        return refuse(request, error)

    async def on_framework_error(request: Request, error: Exception) -> Response:
        if isinstance(error, RequestValidationError):
            problems = [Problem(".".join(map(str, one["loc"])), one["msg"]) for one in error.errors()]
            return refuse(request, InvalidInput(problems))
        if not isinstance(error, HTTPException):
            raise error
        return refuse(request, _translated(request, error))

    async def on_unknown_error(request: Request, error: Exception) -> Response:
        # The framework raises it again afterwards, for `Application` to log.
        return to_response(error_answer(PredictionError("the server failed on this request")))

    async def on_depth(request: Request, error: Exception) -> Response:
        return refuse(request, MalformedRequest.too_deep())

    async def on_disconnect(request: Request, error: Exception) -> Response:
        return to_response(GONE)

    app.add_exception_handler(RequestError, on_refusal)
    app.add_exception_handler(HTTPException, on_framework_error)
    app.add_exception_handler(RequestValidationError, on_framework_error)
    app.add_exception_handler(RecursionError, on_depth)
    app.add_exception_handler(Disconnected, on_disconnect)
    app.add_exception_handler(Exception, on_unknown_error)


def _translated(request: Request, error: HTTPException) -> RequestError:
    path, method = request.scope["path"], request.scope["asked_method"]
    if error.status_code == 405:
        allowed = {name.strip() for name in (error.headers or {}).get("Allow", "").split(",")}
        if "GET" in allowed:
            allowed.add("HEAD")
        return MethodNotAllowed(f"{path} answers {', '.join(sorted(allowed))}, not {method}", allowed=sorted(allowed))
    if error.status_code == 404:
        return UnknownRoute(f"there is nothing at {path}", hint=f"Known paths: {', '.join(_known_paths(request.app))}.")
    return MalformedRequest(str(error.detail))


def _known_paths(app: FastAPI) -> list[str]:
    return sorted(getattr(app, "known_paths", ()))
