"""What the OpenAPI document says of a model, in plain values; `openapi.py` puts it beside the routes.

It is made where the model is: in a pool that is another process than the one that has the routes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pydantic.json_schema import models_json_schema

from model_server import version
from model_server.dataplane import DataPlane
from model_server.domain.model import LoadedModel
from model_server.http import schemas
from model_server.http.examples import FEEDBACK, OPERATIONS, REFUSED, Examples
from model_server.http.model_schemas import explain_model, request_model, response_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A model for its document. Bodies and answers are examples by operation, refusals by path and status.

    `absent` are the tags of routes that this model does not answer; `has_reference`: there are rows of a reference.
    """

    model: str
    version: str
    title: str
    description: str
    absent: list[str]
    has_reference: bool
    schemas: dict[str, Any]
    bodies: dict[str, dict[str, Any]]
    answers: dict[str, Any]
    refusals: dict[str, dict[str, Any]]


def describe_model(plane: DataPlane, loaded: LoadedModel, operations: Collection[str] = OPERATIONS) -> Described:
    """Names, ranges, categories and examples of the features as model.yaml has them; examples of these operations."""
    identity, metadata, explainer = loaded.identity, loaded.metadata, loaded.explainer
    absent = {"openai": loaded.embedding_model is None, "explain": explainer is None}
    examples = Examples(loaded)
    return Described(
        model=identity.model,
        version=identity.version,
        title=metadata.name or identity.model,
        description=metadata.description or f"A {identity.format} model, served by modeldeploy {version()}.",
        absent=[tag for tag, is_absent in absent.items() if is_absent],
        has_reference=explainer is not None and explainer.reference_rows(1) is not None,
        schemas=_schemas(plane, loaded),
        bodies={one: examples.bodies(one) for one in operations},
        answers={one: answer for one in operations if (answer := examples.answer(one)) is not None},
        refusals={path: {str(code): examples.refusal(code, path) for code in REFUSED} for path in ("", FEEDBACK)},
    )


def _schemas(plane: DataPlane, loaded: LoadedModel) -> dict[str, Any]:
    """The schemas of bodies, which the routes name and do not import."""
    max_rows = plane.max_rows
    explained: list[Any] = []
    if loaded.explainer is not None:
        explained = [explain_model(loaded.adapter, plane.explanations.limits.max_rows), schemas.ExplainResponse]
    shapes = [
        request_model(loaded.adapter, max_rows),
        response_model(loaded.metadata.output_features),
        schemas.InferRequest,
        schemas.InferResponse,
        schemas.Table,
        *((schemas.EmbeddingsRequest, schemas.EmbeddingsResponse) if loaded.embedding_model is not None else ()),
        *explained,
        schemas.Feedback,
        schemas.Error,
    ]
    _, found = models_json_schema(
        [(shape, "validation") for shape in shapes], ref_template="#/components/schemas/{model}"
    )
    binary = {"type": "string", "format": "binary", "description": "JSON, and the tensors' bytes behind it."}
    table = {"type": "string", "description": "A table with a header of column names."}
    events = {f"{name}Event": _event_of(name) for name in ("PredictRequest", "PredictResponse")}
    return {**found["$defs"], **events, "Binary": binary, "Csv": table}


def _event_of(schema: str) -> dict[str, Any]:
    """A CloudEvent in structured mode, whose data have this schema."""
    text = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "description": "A CloudEvent in structured mode.",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": text,
            "source": text,
            "type": text,
            # An attribute that is null is absent.
            "datacontenttype": {"enum": ["application/json", None]},
            "data": {"$ref": f"#/components/schemas/{schema}"},
        },
    }
