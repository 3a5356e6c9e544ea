"""`/predict` and `/feedback`: this server's own protocol."""

from __future__ import annotations

from fastapi import APIRouter, Request

from model_server.dataplane import DataPlane
from model_server.http import schemas
from model_server.http.body import BodyTimeouts, RequestLimits, read_body
from model_server.http.keys import documented_key
from model_server.http.predictions import PredictionRoute, Predictions
from model_server.protocols.checks import require_object
from model_server.protocols.payload import Payload
from model_server.protocols.v1 import Instances

PREDICT = PredictionRoute(
    path="/predict",
    name="predict",
    summary="Predict rows",
    description="Rows are objects by feature name, or lists in the features' order.",
    codec=Instances(),
    bodies={"application/json": "PredictRequest"},
    answer="PredictResponse",
)


def create_router(plane: DataPlane, predictions: Predictions, limits: RequestLimits) -> APIRouter:
    """The routes of the tag `predict`."""
    router = APIRouter(tags=["predict"])
    predictions.add(router, PREDICT)
    timeouts = BodyTimeouts(limits.timeout_seconds)

    @router.post(
        "/feedback",
        name="feedback",
        summary="Send the right answer to a prediction",
        description="Labels and conversions feed the metrics of quality. A label counts once.",
        dependencies=documented_key(plane.authenticator),
        openapi_extra={"requestBody": schemas.json_body("Feedback")},
    )
    async def feedback(request: Request) -> schemas.Status:
        headers, started = request.scope["request_headers"], request.scope["started"]
        with plane.taking_feedback(headers):
            body = await read_body(headers, request.receive, limits, timeouts, started)
            plane.feedback(require_object(Payload(body, headers).json()))
        return schemas.Status(status="ok")

    return router
