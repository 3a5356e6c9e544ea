"""The OpenAPI document of a loaded model: the application's routes, with the model's own names, schemas and examples.

https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi.openapi.utils import get_openapi

from model_server.http.application import Application
from model_server.http.described import Described
from model_server.http.examples import FEEDBACK
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


def describe(app: Application, described: Described, *, has_limits: bool, server: str = ".") -> dict[str, Any]:
    """The document of a model.

    `server` is the address of the server as seen from the document: behind a prefix that a gateway cuts off, requests
    go below it as well.
    """
    description = described.description
    document = get_openapi(
        title=described.title,
        version=described.version or "0",
        description=f"{description}{_KEY_NEEDED}" if app.plane.authenticator.asks else description,
        routes=app.routes,
        tags=[tag for tag in _TAGS if tag["name"] not in described.absent],
        servers=[{"url": app.root_path or server}],
    )
    components = document.setdefault("components", {})
    components["schemas"] = {**components.get("schemas", {}), **described.schemas}
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    document["paths"] = _paths_of(document["paths"], described)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _complete(operation, path, described, has_limits=has_limits)
    return document


def _paths_of(paths: dict[str, Any], described: Described) -> dict[str, Any]:
    """The paths under the model's own name and version, which nobody then has to type."""
    found = {}
    absent = set(described.absent)
    for path, operations in paths.items():
        if any(absent.intersection(operation.get("tags", ())) for operation in operations.values()):
            continue
        if path == explain.IMPORTANCE and not described.has_reference:
            continue
        if "{version}" in path and not described.version:
            continue
        own = path.replace("{model}", described.model)
        own = own.replace("{version}", quote(described.version, safe=""))
        for operation in operations.values():
            operation.pop("parameters", None)
        found[own] = operations
    return found


def _complete(operation: dict[str, Any], path: str, described: Described, *, has_limits: bool) -> None:
    """Add examples to the bodies of an operation, and the refusals that it may be answered with."""
    answers, name = operation["responses"], operation["operationId"]
    answers.pop("422", None)
    codes = [401] if "security" in operation else []
    if "/models/" in path or path in (FEEDBACK, EMBEDDINGS.path, explain.IMPORTANCE):
        codes.append(404)
    if "requestBody" in operation:
        codes += _BODY_FAULTS
        if has_limits:
            codes.append(429)
        for kind, body in operation["requestBody"]["content"].items():
            if found := described.bodies.get(name, {}).get(kind):
                body["examples"] = found
        if name in described.answers:
            answers["200"]["content"]["application/json"]["example"] = described.answers[name]
    refusals = described.refusals.get(path) or described.refusals[""]
    for code in codes:
        answers.setdefault(str(code), _refusal(code, refusals[str(code)]))
    operation["responses"] = dict(sorted(answers.items()))


def _refusal(code: int, example: object) -> dict[str, Any]:
    content = {"schema": {"$ref": "#/components/schemas/Error"}, "example": example}
    return {"description": _FAULTS[code], "content": {"application/json": content}}
