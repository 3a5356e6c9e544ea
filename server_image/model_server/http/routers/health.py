"""Probes, which need no key, and metrics, which may be behind one (`auth_protect`)."""

from __future__ import annotations

from typing import Protocol

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from model_server.auth import Authenticator
from model_server.http import schemas
from model_server.http.keys import required_key
from model_server.lifecycle import Lifecycle, Phase
from model_server.telemetry import CONTENT_TYPE, OPENMETRICS


class ProbedPlane(Protocol):
    """A data plane with a phase."""

    @property
    def lifecycle(self) -> Lifecycle: ...

    @property
    def is_ready(self) -> bool: ...


class Metrics(Protocol):
    """What a scrape gets."""

    def render(self) -> bytes: ...

    def render_openmetrics(self) -> bytes: ...


def create_router(plane: ProbedPlane, telemetry: Metrics, guard: Authenticator) -> APIRouter:
    """The routes of the tag `health`; `guard` lets requests for the metrics in."""
    router = APIRouter(tags=["health"])

    @router.get("/livez", name="livez", summary="Does the server run?")
    async def livez() -> schemas.Status:
        return schemas.Status(status="ok")

    @router.get(
        "/readyz",
        name="readyz",
        summary="Phase of the server",
        description="200 only when predictions are answered.",
        responses=schemas.unavailable(schemas.Phase),
    )
    async def readyz(response: Response) -> schemas.Phase:
        phase, message = plane.lifecycle.phase, plane.lifecycle.message
        if phase is Phase.READY and not plane.is_ready:
            phase, message = Phase.LOADING, "waiting for the other workers"
        return schemas.answer_ready(schemas.Phase(phase=phase.value, message=message), response, ready=plane.is_ready)

    @router.get(
        "/metrics",
        name="metrics",
        summary="Metrics for Prometheus",
        response_class=PlainTextResponse,
        dependencies=required_key(guard),
    )
    async def metrics(request: Request) -> Response:
        if b"application/openmetrics-text" in request.scope["request_headers"].get(b"accept", b""):
            return Response(telemetry.render_openmetrics(), media_type=OPENMETRICS)
        return Response(telemetry.render(), media_type=CONTENT_TYPE)

    return router
