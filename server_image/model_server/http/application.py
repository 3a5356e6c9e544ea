"""The FastAPI application of a server, with what every answer of it has; `app.py` and `comparison.py` make one each.

Predictions do not pass through the framework: a request for a path in `fast` is answered here, by the function that
also serves that path as a route of FastAPI's. That halves the processor time of a request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias

from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute

from model_server.auth import Authenticator
from model_server.errors import PredictionError, shortened
from model_server.http.body import Message, Receive, RequestLimits, Scope, Send
from model_server.http.refusals import add_exception_handlers, error_answer
from model_server.lifecycle import Lifecycle
from model_server.protocols.payload import Answer
from model_server.request_ids import RequestIds

log = logging.getLogger(__name__)

#: Header of a request for which a router has drawn this revision in an A/B test (docs/wire.md).
ASSIGNED = b"x-modeldeploy-assigned"

Headers: TypeAlias = dict[bytes, bytes]
#: Answers a prediction from the scope, the body's messages, the headers, the request's id and when its head came.
FastRoute: TypeAlias = Callable[[Scope, Receive, Headers, bytes, float], Awaitable[Answer]]


class Plane(Protocol):
    """What an application asks of its data plane: that of a model, or of a pool, whose `name` is ""."""

    name: str
    authenticator: Authenticator

    @property
    def lifecycle(self) -> Lifecycle: ...


class AssignmentCounter(Protocol):
    """Counts the users of an A/B test."""

    def assigned(self) -> None: ...


class Application(FastAPI):
    """FastAPI with request ids, one form of refusals, `Connection: close` while draining, and a fast path."""

    def __init__(
        self,
        plane: Plane,
        telemetry: AssignmentCounter,
        limits: RequestLimits,
        *,
        root_path: str = "",
        cors_origins: Sequence[str] = (),
        **options: Any,
    ) -> None:
        super().__init__(
            openapi_url=None,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            root_path=root_path,
            generate_unique_id_function=lambda route: route.name,
            **options,
        )
        self.plane = plane
        self.limits = limits
        #: What answers POST at these paths, past the framework.
        self.fast: dict[str, FastRoute] = {}
        #: The paths that a 404 lists.
        self.known_paths: set[str] = set()
        self._metrics = telemetry
        self._ids = RequestIds()
        self._has_cors = bool(cors_origins)
        if cors_origins:
            self.add_middleware(
                CORSMiddleware,
                allow_origins=list(cors_origins),
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=["x-request-id", "inference-header-content-length"],
            )
        add_exception_handlers(self)

    def include_router(self, router: APIRouter, **options: Any) -> None:
        """Include a router, and remember its paths."""
        super().include_router(router, **options)
        self.known_paths |= {route.path_format for route in router.routes if isinstance(route, APIRoute)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        started = time.perf_counter()
        headers: Headers = dict(scope["headers"])
        identifier = self._ids.of(headers)
        if ASSIGNED in headers:
            self._metrics.assigned()
        fast = self.fast.get(scope["path"]) if scope["method"] == "POST" else None
        # What a browser of another origin sends needs the framework's headers.
        if fast is None or (self._has_cors and b"origin" in headers):
            status = await self._by_framework(scope, receive, send, headers, identifier, started)
        else:
            answer = await fast(scope, receive, headers, identifier, started)
            status = answer.status
            await self._write(send, answer, identifier)
        if log.isEnabledFor(logging.DEBUG):
            _log_answer(scope, status, identifier, started, headers)

    async def _write(self, send: Send, answer: Answer, identifier: bytes) -> None:
        body = answer.body
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", identifier),
            *answer.headers,
        ]
        if self.plane.lifecycle.is_draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _by_framework(
        self, scope: Scope, receive: Receive, send: Send, headers: Headers, identifier: bytes, started: float
    ) -> int:
        """Let FastAPI answer; the status."""
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", identifier)]
                if self.plane.lifecycle.is_draining:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        asked = scope["method"]
        # A HEAD is a GET whose body the server leaves out.
        own = {
            **scope,
            "method": "GET" if asked == "HEAD" else asked,
            "asked_method": asked,
            "request_id": identifier,
            "request_headers": headers,
            "started": started,
        }
        try:
            await super().__call__(own, receive, send_with_id)
        except Exception:
            log.exception("request failed", extra={"request_id": identifier.decode(), "path": shortened(scope["path"])})
            if not status:
                await self._write(send, error_answer(PredictionError("the server failed on this request")), identifier)
            return 500
        return status


def _log_answer(scope: Scope, status: int, identifier: bytes, started: float, headers: Headers) -> None:
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
