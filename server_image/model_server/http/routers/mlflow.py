"""The routes of MLflow's scoring server."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from model_server import version
from model_server.dataplane import DataPlane
from model_server.http import schemas
from model_server.http.predictions import PredictionRoute, Predictions
from model_server.http.refusals import mlflow_error
from model_server.protocols.mlflow import Tables

INVOCATIONS = PredictionRoute(
    path="/invocations",
    name="mlflow_invocations",
    summary="Predict the rows of a table (MLflow)",
    codec=Tables(),
    bodies={"application/json": "Table", "text/csv": "Csv"},
    answer="PredictResponse",
    error_fields=mlflow_error,
)


def create_router(plane: DataPlane, predictions: Predictions) -> APIRouter:
    """The routes of the tag `mlflow`."""
    router = APIRouter(tags=["mlflow"])
    predictions.add(router, INVOCATIONS)

    async def ping(response: Response) -> schemas.Empty:
        return schemas.answer_ready(schemas.Empty(), response, ready=plane.is_ready)

    for path in ("/ping", "/health"):
        router.add_api_route(
            path,
            ping,
            name=f"mlflow_{path[1:]}",
            summary="Is the server ready? (MLflow)",
            responses=schemas.unavailable(schemas.Empty),
        )

    @router.get(
        "/version", name="mlflow_version", summary="The server's version (MLflow)", response_class=PlainTextResponse
    )
    async def server_version() -> str:
        return version()

    return router
