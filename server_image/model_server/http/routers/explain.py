"""`/explain` and V1's `:explain`; in the document only where the model is explained."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter

from model_server.dataplane import DataPlane
from model_server.http import schemas
from model_server.http.keys import required_key
from model_server.http.predictions import PredictionRoute, Predictions
from model_server.protocols.explanations import ExplainedInstances, kind_of

IMPORTANCE = "/explain/importance"
EXPLAIN = PredictionRoute(
    path="/explain",
    name="explain",
    summary="Explain predictions",
    description=(
        "The rows of `/predict`. The contributions of a row's features and the base value add up to its output, on the"
        " scale that the answer names."
    ),
    codec=ExplainedInstances(),
    bodies={"application/json": "ExplainRequest"},
    answer="ExplainResponse",
    explains=True,
)
V1 = replace(
    EXPLAIN,
    path="/v1/models/{model:name}:explain",
    name="v1_explain",
    summary="Explain predictions (V1)",
    codec=ExplainedInstances(also=("signature_name", "inputs")),
)
V1_VERSION = replace(
    V1,
    path="/v1/models/{model:name}/versions/{version:name}:explain",
    name="v1_explain_version",
    summary="Explain predictions of a version (V1)",
)


def create_router(plane: DataPlane, predictions: Predictions) -> APIRouter:
    """The routes of the tag `explain`."""
    router = APIRouter(tags=["explain"])
    for route in (EXPLAIN, V1, V1_VERSION):
        predictions.add(router, route)

    @router.get(
        IMPORTANCE,
        name="importance",
        summary="How important is each feature?",
        dependencies=required_key(plane.authenticator),
        responses=schemas.unavailable(schemas.Error),
    )
    async def importance() -> schemas.FeatureImportance:
        found, kind = plane.explanations.importance, kind_of(plane.loaded)
        ordered = dict(sorted(found.values.items(), key=lambda pair: -pair[1]))
        return schemas.FeatureImportance.model_validate(
            {"importance": ordered, "rows": found.rows, "method": kind.method, "scale": kind.scale}
        )

    return router
