"""The ASGI application: finds the route, reads the body, writes the answer, and counts.

`create_app` receives everything it uses. The only table that knows both errors and HTTP is here.
"""

from __future__ import annotations

import logging
import time
from typing import TypeAlias

import orjson

from model_server.auth import Gate
from model_server.documentation import Documentation
from model_server.errors import (
    DeadlineExceeded,
    InvalidInput,
    MalformedRequest,
    MethodNotAllowed,
    ModelNotReady,
    Overloaded,
    PredictionError,
    RequestError,
    RequestTimeout,
    RequestTooLarge,
    Unauthorized,
    UnknownModel,
    UnknownPrediction,
    UnknownRoute,
    UnsupportedMediaType,
    shortened,
)
from model_server.http import (
    JSON,
    Disconnected,
    Receive,
    Request,
    RequestIds,
    RequestLimits,
    Response,
    Scope,
    Send,
    SlowBodies,
    read_body,
)
from model_server.lifecycle import Lifecycle
from model_server.routes import Handlers, Route, Routes
from model_server.telemetry import Telemetry
from model_server.tracing import NO_TRACE, Trace, Tracer

log = logging.getLogger(__name__)

STATUS_OF: dict[type[RequestError], int] = {
    MalformedRequest: 400,
    InvalidInput: 422,
    UnknownRoute: 404,
    Unauthorized: 401,
    UnknownModel: 404,
    UnknownPrediction: 404,
    MethodNotAllowed: 405,
    RequestTimeout: 408,
    RequestTooLarge: 413,
    UnsupportedMediaType: 415,
    ModelNotReady: 503,
    Overloaded: 503,
    DeadlineExceeded: 504,
    PredictionError: 500,
}

#: Header of a request for which a router has drawn this revision in an A/B test (docs/wire.md).
ASSIGNED = b"x-modeldeploy-assigned"

Headers: TypeAlias = list[tuple[bytes, bytes]]


def create_app(
    *, lifecycle: Lifecycle, telemetry: Telemetry, tracer: Tracer, gate: Gate, name: str, limits: RequestLimits
) -> App:
    """Put an application together for the model that `lifecycle` will hold."""
    handlers = Handlers(lifecycle, telemetry, name=name, max_rows=limits.max_rows)
    documentation = Documentation(lifecycle, max_rows=limits.max_rows)
    routes = Routes(handlers.routes() + documentation.routes())
    routes.alias(f"/v2/models/{name}/infer", of="/v2/models/{model}/infer")
    routes.alias(f"/v1/models/{name}:predict", of="/v1/models/{model}:predict")
    return App(routes, lifecycle, telemetry, tracer, gate, limits)


class App:
    """The ASGI callable."""

    def __init__(
        self,
        routes: Routes,
        lifecycle: Lifecycle,
        telemetry: Telemetry,
        tracer: Tracer,
        gate: Gate,
        limits: RequestLimits,
    ) -> None:
        self._routes = routes
        self._lifecycle = lifecycle
        self._telemetry = telemetry
        self._tracer = tracer
        self._gate = gate
        self._limits = limits
        self._slow = SlowBodies(limits.timeout_seconds)
        self._ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"this application speaks http, not {scope['type']}")
        started = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        identifier = self._ids.of(headers)
        if ASSIGNED in headers:
            self._telemetry.assigned()
        route: Route | None = None
        counts = False
        trace: Trace = NO_TRACE
        try:
            route, params = self._routes.find(scope["method"], scope["path"])
            if route.predicts:
                counts = True
                self._telemetry.begin()
                trace = self._tracer.begin(headers)
            if not route.is_open:
                self._gate.check(headers)
            request = Request(scope["method"], scope["path"], headers, identifier, params=params, trace=trace)
            if scope["method"] == "POST":
                request.body = await read_body(request, receive, self._limits, self._slow, started)
            response = await route.handler(request)
        except RequestError as error:
            response = error_response(error)
            self._log_refusal(scope, response.status, error, identifier)
        except Disconnected:
            # Nobody reads it; the status is the one proxies use for a client that went away.
            response = Response(499, b"")
        except Exception:
            log.exception("request failed", extra={"request_id": identifier.decode(), "path": shortened(scope["path"])})
            response = error_response(PredictionError("the server failed on this request"))
        if log.isEnabledFor(logging.DEBUG):
            self._log_answer(scope, response.status, identifier, started, headers)
        if counts and route is not None:
            self._telemetry.end(
                response.status,
                time.perf_counter() - started,
                trace.end(f"{route.method} {route.path}", response.status, began=started),
            )
        await self._write(send, response, identifier)

    async def _write(self, send: Send, response: Response, identifier: bytes) -> None:
        body = response.body
        headers: Headers = [
            (b"content-type", response.media_type),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", identifier),
            *response.headers,
        ]
        if self._lifecycle.is_draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _log_answer(
        self, scope: Scope, status: int, identifier: bytes, started: float, headers: dict[bytes, bytes]
    ) -> None:
        extra = {
            "request_id": identifier.decode(),
            "method": scope["method"],
            "path": shortened(scope["path"]),
            "status": status,
            "seconds": round(time.perf_counter() - started, 6),
        }
        # W3C's trace context, so that a trace leads to this line.
        if b"traceparent" in headers:
            extra["traceparent"] = headers[b"traceparent"].decode("latin-1")[:64]
        log.debug("answered", extra=extra)

    def _log_refusal(self, scope: Scope, status: int, error: RequestError, identifier: bytes) -> None:
        level = logging.ERROR if status == 500 else logging.INFO
        if log.isEnabledFor(level):
            extra = {
                "request_id": identifier.decode(),
                "path": shortened(scope["path"]),
                "status": status,
                "reason": error.reason,
            }
            log.log(level, error.message, extra=extra, exc_info=error.__cause__ if status == 500 else None)


def error_response(error: RequestError) -> Response:
    """The JSON of an error: `error` is the sentence that V2 asks for, the rest is for programs."""
    status = STATUS_OF[type(error)]
    document: dict[str, object] = {"error": error.message, "reason": error.reason}
    if error.hint:
        document["hint"] = error.hint
    if isinstance(error, InvalidInput):
        document["details"] = [{"field": problem.field, "message": problem.message} for problem in error.problems]
    headers: Headers = []
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 503:
        headers.append((b"retry-after", b"1"))
    if status in (408, 413):
        # The rest of the body is not wanted: the connection cannot be used again.
        headers.append((b"connection", b"close"))
    return Response(status, orjson.dumps(document), JSON, headers)
