"""V2, the Open Inference Protocol over REST."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

from model_server import version
from model_server.dataplane import DataPlane
from model_server.http import schemas
from model_server.http.keys import required_key
from model_server.http.predictions import PredictionRoute, Predictions
from model_server.protocols.v2 import Tensors, model_metadata

_MODEL = "/v2/models/{model:name}"
_VERSION = "/v2/models/{model:name}/versions/{version:name}"
EXTENSIONS = ("binary_tensor_data", "model_repository", "statistics")
_DESCRIPTION = (
    "Tensors as JSON, or as bytes behind it: then the header `Inference-Header-Content-Length` says where the JSON"
    " ends, and each such tensor's parameter `binary_data_size` how many bytes are its own. With the parameter"
    " `explain` the outputs are the contributions of the features, where the model is explained."
)


def infer(path: str, name: str) -> PredictionRoute:
    """The route of inference requests below a model's path."""
    return PredictionRoute(
        path=f"{path}/infer",
        name=name,
        summary="Infer (V2)",
        description=_DESCRIPTION,
        codec=Tensors(),
        bodies={"application/json": "InferRequest", "application/octet-stream": "Binary"},
        answer="InferResponse",
        other_answers={"application/octet-stream": "Binary"},
    )


def create_router(plane: DataPlane, predictions: Predictions) -> APIRouter:
    """The routes of the tag `v2`."""
    router = APIRouter(tags=["v2"])
    predictions.add(router, infer(_MODEL, "v2_infer"))
    predictions.add(router, infer(_VERSION, "v2_infer_version"))
    _add_server_routes(router, plane)
    _add_model_routes(router, plane)
    return router


def _add_server_routes(router: APIRouter, plane: DataPlane) -> None:
    keys = required_key(plane.authenticator)

    # The specification's path has a slash at its end, and its clients ask without one.
    @router.get("/v2/", include_in_schema=False)
    @router.get("/v2", name="v2_server", summary="Describe the server (V2)")
    async def server() -> schemas.ServerMetadata:
        return schemas.ServerMetadata(name="modeldeploy", version=version(), extensions=list(EXTENSIONS))

    @router.get("/v2/models", name="v2_models", summary="List the models (V2)", dependencies=keys)
    async def models() -> schemas.V1Models:
        return schemas.V1Models(models=[plane.name])

    @router.get("/v2/docs", include_in_schema=False)
    async def docs() -> RedirectResponse:
        return RedirectResponse("../docs")

    @router.get("/v2/health/live", name="v2_live", summary="Does the server run? (V2)")
    async def live() -> schemas.Live:
        return schemas.Live(live=True)

    @router.get(
        "/v2/health/ready",
        name="v2_ready",
        summary="Is the server ready? (V2)",
        responses=schemas.unavailable(schemas.Ready),
    )
    async def ready(response: Response) -> schemas.Ready:
        return schemas.answer_ready(schemas.Ready(ready=plane.is_ready), response)


def _add_model_routes(router: APIRouter, plane: DataPlane) -> None:
    keys = required_key(plane.authenticator)
    described = schemas.unavailable(schemas.Error)
    ready = schemas.unavailable(schemas.ModelReady)

    def metadata_of(model: str, version: str = "") -> schemas.ModelMetadata:
        plane.require_model(model, version)
        return schemas.ModelMetadata.model_validate(model_metadata(plane.loaded))

    def readiness_of(response: Response, model: str, version: str = "") -> schemas.ModelReady:
        plane.require_model(model, version)
        return schemas.answer_ready(schemas.ModelReady(name=model, ready=plane.is_ready), response)

    summary = "Describe inputs and outputs (V2)"

    @router.get(_MODEL, name="v2_model", summary=summary, dependencies=keys, responses=described)
    async def model_metadata_route(model: str) -> schemas.ModelMetadata:
        return metadata_of(model)

    @router.get(_VERSION, name="v2_model_version", summary=summary, dependencies=keys, responses=described)
    async def version_metadata_route(model: str, version: str) -> schemas.ModelMetadata:
        return metadata_of(model, version)

    summary = "Is the model ready? (V2)"

    @router.get(f"{_MODEL}/ready", name="v2_model_ready", summary=summary, dependencies=keys, responses=ready)
    async def model_ready(response: Response, model: str) -> schemas.ModelReady:
        return readiness_of(response, model)

    @router.get(f"{_VERSION}/ready", name="v2_model_version_ready", summary=summary, dependencies=keys, responses=ready)
    async def version_ready(response: Response, model: str, version: str) -> schemas.ModelReady:
        return readiness_of(response, model, version)
