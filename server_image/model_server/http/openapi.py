"""The OpenAPI document of a loaded model: the application's routes, with the model's own names, schemas and examples.

https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from model_server import version
from model_server.dataplane import DataPlane
from model_server.domain.model import LoadedModel
from model_server.http import schemas
from model_server.http.application import Application
from model_server.http.examples import Examples
from model_server.http.model_schemas import explain_model, request_model, response_model
from model_server.http.routers import explain
from model_server.http.routers.openai import EMBEDDINGS

_TAGS = [
    {"name": "predict", "description": "Rows in, predictions out; what was right afterwards."},
    {"name": "explain", "description": "Why the model answers as it does: contributions of the features."},
    {"name": "v1", "description": "The V1 protocol of KServe and TensorFlow Serving."},
    {"name": "v2", "description": "The Open Inference Protocol (V2) of KServe, Triton and MLServer."},
    {"name": "mlflow", "description": "What MLflow's scoring server answers."},
    {"name": "openai", "description": "OpenAI's protocol for embeddings."},
    {"name": "health", "description": "Probes and metrics."},
]
_KEY_NEEDED = "\n\nRequests with a padlock need an API key, which *Authorize* in `/docs` takes."
_FAULTS = {
    400: "The body cannot be read.",
    401: "The API key is missing or not valid.",
    404: "This is not known here.",
    408: "The body did not arrive in time.",
    413: "Too many bytes or rows.",
    415: "Not a content type this route reads.",
    422: "The input does not fit the model; each fault names its field.",
    429: "The API key is over its limit; Retry-After says when to come again.",
    500: "The model failed on this input.",
    503: "The model is not ready, or too many requests are waiting.",
    504: "No prediction within the request timeout.",
}
_BODY_FAULTS = (400, 408, 413, 415, 422, 500, 503, 504)


def describe(app: Application, plane: DataPlane, loaded: LoadedModel) -> dict[str, Any]:
    """The document: names, ranges, categories and examples of the features are those of model.yaml."""
    identity, metadata = loaded.identity, loaded.metadata
    description = metadata.description or f"A {identity.format} model, served by modeldeploy {version()}."
    document = get_openapi(
        title=metadata.name or identity.model,
        version=identity.version or "0",
        description=f"{description}{_KEY_NEEDED}" if plane.authenticator.asks else description,
        routes=app.routes,
        tags=[tag for tag in _TAGS if tag["name"] not in _absent_tags(loaded)],
        # Relative to the document: behind a prefix that a gateway cuts off, requests go below it as well.
        servers=[{"url": app.root_path or "."}],
    )
    components = document.setdefault("components", {})
    components["schemas"] = {**components.get("schemas", {}), **_schemas(plane, loaded)}
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    document["paths"] = _paths_of(document["paths"], loaded)
    examples = Examples(loaded)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _complete(operation, path, examples, has_limits=plane.has_key_limits)
    return document


def _absent_tags(loaded: LoadedModel) -> set[str]:
    """Tags whose routes this model does not answer."""
    absent = {"openai": loaded.embedding_model is None, "explain": loaded.explainer is None}
    return {tag for tag, is_absent in absent.items() if is_absent}


def _has_reference(loaded: LoadedModel) -> bool:
    return loaded.explainer is not None and loaded.explainer.reference_rows(1) is not None


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


def _paths_of(paths: dict[str, Any], loaded: LoadedModel) -> dict[str, Any]:
    """The paths under the model's own name and version, which nobody then has to type."""
    found = {}
    absent = _absent_tags(loaded)
    for path, operations in paths.items():
        if any(absent.intersection(operation.get("tags", ())) for operation in operations.values()):
            continue
        if path == explain.IMPORTANCE and not _has_reference(loaded):
            continue
        if "{version}" in path and not loaded.identity.version:
            continue
        own = path.replace("{model}", loaded.identity.model)
        own = own.replace("{version}", quote(loaded.identity.version, safe=""))
        for operation in operations.values():
            operation.pop("parameters", None)
        found[own] = operations
    return found


def _complete(operation: dict[str, Any], path: str, examples: Examples, *, has_limits: bool) -> None:
    """Add examples to the bodies of an operation, and the refusals that it may be answered with."""
    answers = operation["responses"]
    answers.pop("422", None)
    codes = [401] if "security" in operation else []
    if "/models/" in path or path in ("/feedback", EMBEDDINGS.path, explain.IMPORTANCE):
        codes.append(404)
    if "requestBody" in operation:
        codes += _BODY_FAULTS
        if has_limits:
            codes.append(429)
        for kind, body in operation["requestBody"]["content"].items():
            if found := examples.bodies(operation["operationId"], kind):
                body["examples"] = found
        answer = examples.answer(operation["operationId"])
        if answer is not None:
            answers["200"]["content"]["application/json"]["example"] = answer
    for code in codes:
        answers.setdefault(str(code), _refusal(code, path, examples))
    operation["responses"] = dict(sorted(answers.items()))


def _refusal(code: int, path: str, examples: Examples) -> dict[str, Any]:
    content = {"schema": {"$ref": "#/components/schemas/Error"}, "example": examples.refusal(code, path)}
    return {"description": _FAULTS[code], "content": {"application/json": content}}
