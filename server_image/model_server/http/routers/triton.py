"""Triton's extensions of V2: the model repository, and statistics.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from model_server.dataplane import DataPlane
from model_server.errors import InvalidInput, OperationNotSupported
from model_server.http import schemas
from model_server.http.body import BodyTimeouts, RequestLimits, read_body
from model_server.http.keys import required_key
from model_server.protocols.checks import require_object
from model_server.protocols.payload import parse_json

_MODELS = "/v2/models"
_REPOSITORY = "/v2/repository"


def create_router(plane: DataPlane, limits: RequestLimits) -> APIRouter:
    """More routes of the tag `v2`."""
    router = APIRouter(tags=["v2"])
    _add_repository(router, plane, limits)
    _add_statistics(router, plane)
    return router


def _add_repository(router: APIRouter, plane: DataPlane, limits: RequestLimits) -> None:
    keys = required_key(plane.authenticator)
    timeouts = BodyTimeouts(limits.timeout_seconds)

    # Its body may be absent or anything: there is one model, and it is always listed.
    @router.post(f"{_REPOSITORY}/index", include_in_schema=False, dependencies=keys)
    async def index() -> list[schemas.RepositoryModel]:
        lifecycle = plane.lifecycle
        version = plane.loaded.identity.version if lifecycle.has_model else ""
        reason = "" if plane.is_ready else f"{lifecycle.phase}: {lifecycle.message}"
        return [
            schemas.RepositoryModel(
                name=plane.name, version=version, state="READY" if plane.is_ready else "UNAVAILABLE", reason=reason
            )
        ]

    @router.post(f"{_REPOSITORY}/models/{{model:name}}/load", include_in_schema=False, dependencies=keys)
    async def load(model: str, request: Request) -> Response:
        """Clients load a model before they ask it: what is served is loaded, and stays as it is."""
        plane.require_model(model)
        headers, started = request.scope["request_headers"], request.scope["started"]
        body = await read_body(headers, request.receive, limits, timeouts, started)
        if body and require_object(parse_json(body)).get("parameters"):
            raise InvalidInput.at("parameters", "expected none: this server's settings say how a model is loaded")
        _ = plane.loaded
        return Response(status_code=200)

    @router.post(f"{_REPOSITORY}/models/{{model:name}}/unload", include_in_schema=False, dependencies=keys)
    async def unload(model: str) -> Response:
        plane.require_model(model)
        raise OperationNotSupported(
            f"this server serves {model!r} alone, and unloads it when it ends",
            hint="Delete the ModelDeployment, or set spec.replicas to 0.",
        )


def _add_statistics(router: APIRouter, plane: DataPlane) -> None:
    keys = required_key(plane.authenticator)
    described = schemas.unavailable(schemas.Error)
    summary = "Count and time predictions (V2)"

    def statistics_of(model: str, version: str = "") -> schemas.Statistics:
        plane.require_model(model, version)
        return schemas.Statistics.model_validate({"model_stats": [plane.statistics()]})

    if plane.name != "stats":  # whose metadata lie at this path

        @router.get(f"{_MODELS}/stats", include_in_schema=False, dependencies=keys)
        async def all_statistics() -> schemas.Statistics:
            return statistics_of(plane.name)

    @router.get(
        f"{_MODELS}/{{model:name}}/stats", name="v2_stats", summary=summary, dependencies=keys, responses=described
    )
    async def model_statistics(model: str) -> schemas.Statistics:
        return statistics_of(model)

    @router.get(
        f"{_MODELS}/{{model:name}}/versions/{{version:name}}/stats",
        name="v2_version_stats",
        summary=summary,
        dependencies=keys,
        responses=described,
    )
    async def version_statistics(model: str, version: str) -> schemas.Statistics:
        return statistics_of(model, version)
