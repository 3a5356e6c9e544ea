"""OpenAI's embeddings; in the document only where the model gives embeddings."""

from __future__ import annotations

from fastapi import APIRouter

from model_server.http.predictions import PredictionRoute, Predictions
from model_server.protocols.openai import Embeddings

EMBEDDINGS = PredictionRoute(
    path="/v1/embeddings",
    name="openai_embeddings",
    summary="Embed texts (OpenAI)",
    description="Texts beyond the model's length are cut, as the description of its feature says.",
    codec=Embeddings(),
    bodies={"application/json": "EmbeddingsRequest"},
    answer="EmbeddingsResponse",
)


def create_router(predictions: Predictions) -> APIRouter:
    """The route of the tag `openai`."""
    router = APIRouter(tags=["openai"])
    predictions.add(router, EMBEDDINGS)
    return router
