"""The application of a pool: the same paths as a server of one model, for every model of the list."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from model_server import version
from model_server.auth import BrowserAuth, Guards
from model_server.errors import InvalidInput
from model_server.http import schemas
from model_server.http.application import Application
from model_server.http.body import BodyTimeouts, RequestLimits, read_body
from model_server.http.described import Described
from model_server.http.keys import required_key
from model_server.http.openapi import describe
from model_server.http.predictions import Predictions
from model_server.http.routers import explain, health, v1, v2
from model_server.http.routers.documentation import add_assets, add_viewers
from model_server.pool import state
from model_server.pool.codecs import CODECS, EXPLAINING
from model_server.pool.entry import V2State
from model_server.pool.front import PoolPlane
from model_server.pool.telemetry import PoolTelemetry
from model_server.protocols.checks import require_object
from model_server.protocols.payload import parse_json

_MODEL = "/v2/models/{model:name}"
_VERSION = f"{_MODEL}/versions/{{version:name}}"
_REPOSITORY = "/v2/repository"
#: From a model's pages to the root of the server.
_ROOT = "../../../"


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
    _add_predictions(app)
    app.include_router(_pool(plane))
    app.include_router(_models(plane))
    app.include_router(_repository(plane, limits))
    guard = (guards or Guards()).metrics
    app.include_router(state.create_router(plane.pool, telemetry, guard), include_in_schema=False)
    app.include_router(_documents(app, plane))
    add_assets(app)
    app.include_router(health.create_router(plane, telemetry, guard), include_in_schema=False)
    return app


def _add_predictions(app: Application) -> None:
    predictions = Predictions(app)
    routes = {
        "v2": (v2.infer(_MODEL, "v2_infer"), v2.infer(_VERSION, "v2_infer_version")),
        "v1": (v1.PREDICT, v1.PREDICT_VERSION),
        "v1-explain": (explain.V1, explain.V1_VERSION),
    }
    for codec, of_protocol in routes.items():
        tagged = APIRouter(tags=["explain" if codec in EXPLAINING else codec])
        for route in of_protocol:
            predictions.add(tagged, replace(route, codec=CODECS[codec]))
        app.include_router(tagged)


def _pool(plane: PoolPlane) -> APIRouter:
    """The routes of no one model, which are in no model's document."""
    router = APIRouter(include_in_schema=False)
    pool, keys = plane.pool, required_key(plane.authenticator)

    @router.get("/v2/")
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

    return router


def _models(plane: PoolPlane) -> APIRouter:
    router = APIRouter()
    pool, keys = plane.pool, required_key(plane.authenticator)

    async def metadata(model: str, version: str = "") -> Response:
        return Response(await pool.describe(model, version), media_type="application/json")

    async def model_ready(response: Response, model: str, version: str = "") -> schemas.ModelReady:
        """Ready is what answers a request, which may load it first."""
        entry = pool.entry(model)
        entry.require(version)
        return schemas.answer_ready(schemas.ModelReady(name=model, ready=plane.is_ready and entry.answers), response)

    described, unready = schemas.unavailable(schemas.Error), schemas.unavailable(schemas.ModelReady)
    for path, name in ((_MODEL, "v2_model"), (_VERSION, "v2_model_version")):
        router.add_api_route(
            path,
            metadata,
            name=name,
            tags=["v2"],
            summary="Describe inputs and outputs (V2)",
            dependencies=keys,
            response_model=schemas.ModelMetadata,
            responses=described,
        )
    for path, name, protocol in (
        ("/v1/models/{model:name}", "v1_model_ready", "v1"),
        (f"{_MODEL}/ready", "v2_model_ready", "v2"),
        (f"{_VERSION}/ready", "v2_model_version_ready", "v2"),
    ):
        summary = f"Is the model ready? ({protocol.upper()})"
        router.add_api_route(
            path, model_ready, name=name, tags=[protocol], summary=summary, dependencies=keys, responses=unready
        )
    return router


def _documents(app: Application, plane: PoolPlane) -> APIRouter:
    """The pages of each model, at its own path: with them a browser asks its user for a key."""
    keys = BrowserAuth(plane.authenticator) if plane.authenticator.asks else plane.authenticator
    router = APIRouter(include_in_schema=False, dependencies=required_key(keys))

    @router.get(f"{_MODEL}/openapi.json")
    async def openapi(model: str) -> Response:
        body = await plane.pool.document(model)
        return Response(await asyncio.to_thread(_written, app, plane, body), media_type="application/json")

    add_viewers(router, _MODEL, _ROOT)
    return router


def _written(app: Application, plane: PoolPlane, body: bytes) -> bytes:
    described = msgspec.json.decode(body, type=Described)
    return orjson.dumps(describe(app, described, has_limits=plane.has_key_limits, server=_ROOT.rstrip("/")))


def _repository(plane: PoolPlane, limits: RequestLimits) -> APIRouter:
    router = APIRouter()
    pool, keys = plane.pool, required_key(plane.authenticator)
    timeouts = BodyTimeouts(limits.timeout_seconds)

    async def document(request: Request) -> dict[str, object]:
        headers, started = request.scope["request_headers"], request.scope["started"]
        body = await read_body(headers, request.receive, limits, timeouts, started)
        return dict(require_object(parse_json(body))) if body else {}

    @router.post(f"{_REPOSITORY}/index", include_in_schema=False, dependencies=keys)
    async def index(request: Request) -> list[PooledModel]:
        wants_ready = (await document(request)).get("ready") is True
        entries = [one for one in pool.entries if one.is_loaded or not wants_ready]
        return [
            PooledModel(name=one.name, version=one.shown_version, state=one.v2_state, reason=one.reason)
            for one in entries
        ]

    load_summary, unload_summary = "Load the model", "Unload the model; the next request loads it again"

    @router.post(
        f"{_REPOSITORY}/models/{{model:name}}/load", name="load", tags=["v2"], summary=load_summary, dependencies=keys
    )
    async def load(model: str, request: Request) -> Response:
        if (await document(request)).get("parameters"):
            raise InvalidInput.at("parameters", "expected none: the list of the pool says how a model is loaded")
        await pool.load(model)
        return Response(status_code=200)

    @router.post(
        f"{_REPOSITORY}/models/{{model:name}}/unload",
        name="unload",
        tags=["v2"],
        summary=unload_summary,
        dependencies=keys,
    )
    async def unload(model: str) -> Response:
        await pool.unload(model)
        return Response(status_code=200)

    return router
