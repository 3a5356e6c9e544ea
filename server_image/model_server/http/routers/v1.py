"""V1, the protocol of KServe and TensorFlow Serving."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Response

from model_server.dataplane import DataPlane
from model_server.http import schemas
from model_server.http.keys import required_key
from model_server.http.predictions import PredictionRoute, Predictions
from model_server.protocols.cloudevents import MEDIA_TYPE, Events
from model_server.protocols.v1 import Instances

PREDICT = PredictionRoute(
    path="/v1/models/{model:name}:predict",
    name="v1_predict",
    summary="Predict rows (V1)",
    # TensorFlow Serving's name of a function; there is one here.
    codec=Events(Instances(also=("signature_name", "inputs"))),
    description="A CloudEvent, in binary or structured mode, is answered with one.",
    bodies={"application/json": "PredictRequest", MEDIA_TYPE: "PredictRequestEvent"},
    answer="PredictResponse",
    other_answers={MEDIA_TYPE: "PredictResponseEvent"},
)


PREDICT_VERSION = replace(
    PREDICT,
    path="/v1/models/{model:name}/versions/{version:name}:predict",
    name="v1_predict_version",
    summary="Predict rows with a version (V1)",
)


def create_router(plane: DataPlane, predictions: Predictions) -> APIRouter:
    """The routes of the tag `v1`."""
    router = APIRouter(tags=["v1"])
    predictions.add(router, PREDICT)
    predictions.add(router, PREDICT_VERSION)
    keys = required_key(plane.authenticator)

    @router.get("/v1/models", name="v1_models", summary="List the models (V1)", dependencies=keys)
    async def models() -> schemas.V1Models:
        return schemas.V1Models(models=[plane.name])

    @router.get(
        "/v1/models/{model:name}",
        name="v1_model_ready",
        summary="Is the model ready? (V1)",
        dependencies=keys,
        responses=schemas.unavailable(schemas.ModelReady),
    )
    async def model_ready(model: str, response: Response) -> schemas.ModelReady:
        plane.require_model(model)
        return schemas.answer_ready(schemas.ModelReady(name=model, ready=plane.is_ready), response)

    return router
