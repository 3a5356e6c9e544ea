"""The application of a pool: the same paths as a server of one model, for every model of the list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from model_server import version
from model_server.auth import Guards
from model_server.errors import InvalidInput
from model_server.http import schemas
from model_server.http.application import Application
from model_server.http.body import BodyTimeouts, RequestLimits, read_body
from model_server.http.keys import required_key
from model_server.http.predictions import Predictions
from model_server.http.routers import explain, health, v1, v2
from model_server.pool import state
from model_server.pool.codecs import CODECS
from model_server.pool.entry import V2State
from model_server.pool.front import PoolPlane
from model_server.pool.telemetry import PoolTelemetry
from model_server.protocols.checks import require_object
from model_server.protocols.payload import parse_json

_MODEL = "/v2/models/{model:name}"
_VERSION = f"{_MODEL}/versions/{{version:name}}"
_REPOSITORY = "/v2/repository"


class PooledModel(BaseModel):
    """A model of the repository. UNAVAILABLE without a reason: it is loaded when it is asked for."""

    name: str
    version: str
    state: V2State
    reason: str


def create_pool_app(
    plane: PoolPlane,
    telemetry: PoolTelemetry,
    limits: RequestLimits,
    *,
    root_path: str = "",
    cors_origins: Sequence[str] = (),
    guards: Guards | None = None,
) -> Application:
    """The application; arguments as those of `http.app.create_app`."""
    app = Application(plane, telemetry, limits, root_path=root_path, cors_origins=cors_origins)
    predictions = Predictions(app)
    app.include_router(_predictions(predictions))
    app.include_router(_models(plane))
    app.include_router(_repository(plane, limits))
    guard = (guards or Guards()).metrics
    app.include_router(state.create_router(plane.pool, telemetry, guard))
    app.include_router(health.create_router(plane, telemetry, guard))
    return app


def _predictions(predictions: Predictions) -> APIRouter:
    router = APIRouter()
    routes = (v2.infer(_MODEL, "v2_infer"), v2.infer(_VERSION, "v2_infer_version"))
    for route in routes:
        predictions.add(router, replace(route, codec=CODECS["v2"]))
    for route in (v1.PREDICT, v1.PREDICT_VERSION):
        predictions.add(router, replace(route, codec=CODECS["v1"]))
    for route in (explain.V1, explain.V1_VERSION):
        predictions.add(router, replace(route, codec=CODECS["v1-explain"]))
    return router


def _models(plane: PoolPlane) -> APIRouter:
    router = APIRouter()
    pool, keys = plane.pool, required_key(plane.authenticator)

    @router.get("/v2/", include_in_schema=False)
    @router.get("/v2")
    async def server() -> schemas.ServerMetadata:
        extensions = ["binary_tensor_data", "model_repository"]
        return schemas.ServerMetadata(name="modeldeploy", version=version(), extensions=extensions)

    @router.get("/v2/health/live")
    async def live() -> schemas.Live:
        return schemas.Live(live=True)

    @router.get("/v2/health/ready", responses=schemas.unavailable(schemas.Ready))
    async def ready(response: Response) -> schemas.Ready:
        return schemas.answer_ready(schemas.Ready(ready=plane.is_ready), response)

    @router.get("/v1/models", dependencies=keys)
    @router.get("/v2/models", dependencies=keys)
    async def models() -> schemas.V1Models:
        return schemas.V1Models(models=[one.name for one in pool.entries])

    @router.get(_MODEL, dependencies=keys)
    @router.get(_VERSION, dependencies=keys)
    async def metadata(model: str, version: str = "") -> Response:
        return Response(await pool.describe(model, version), media_type="application/json")

    @router.get("/v1/models/{model:name}", dependencies=keys, responses=schemas.unavailable(schemas.ModelReady))
    @router.get(f"{_MODEL}/ready", dependencies=keys, responses=schemas.unavailable(schemas.ModelReady))
    @router.get(f"{_VERSION}/ready", dependencies=keys, responses=schemas.unavailable(schemas.ModelReady))
    async def model_ready(response: Response, model: str, version: str = "") -> schemas.ModelReady:
        """Ready is what answers a request, which may load it first."""
        entry = pool.entry(model)
        entry.require(version)
        return schemas.answer_ready(schemas.ModelReady(name=model, ready=plane.is_ready and entry.answers), response)

    return router


def _repository(plane: PoolPlane, limits: RequestLimits) -> APIRouter:
    router = APIRouter()
    pool, keys = plane.pool, required_key(plane.authenticator)
    timeouts = BodyTimeouts(limits.timeout_seconds)

    async def document(request: Request) -> dict[str, object]:
        headers, started = request.scope["request_headers"], request.scope["started"]
        body = await read_body(headers, request.receive, limits, timeouts, started)
        return dict(require_object(parse_json(body))) if body else {}

    @router.post(f"{_REPOSITORY}/index", dependencies=keys)
    async def index(request: Request) -> list[PooledModel]:
        wants_ready = (await document(request)).get("ready") is True
        entries = [one for one in pool.entries if one.is_loaded or not wants_ready]
        return [
            PooledModel(name=one.name, version=one.shown_version, state=one.v2_state, reason=one.reason)
            for one in entries
        ]

    @router.post(f"{_REPOSITORY}/models/{{model:name}}/load", dependencies=keys)
    async def load(model: str, request: Request) -> Response:
        if (await document(request)).get("parameters"):
            raise InvalidInput.at("parameters", "expected none: the list of the pool says how a model is loaded")
        await pool.load(model)
        return Response(status_code=200)

    @router.post(f"{_REPOSITORY}/models/{{model:name}}/unload", dependencies=keys)
    async def unload(model: str) -> Response:
        await pool.unload(model)
        return Response(status_code=200)

    return router
