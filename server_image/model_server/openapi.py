"""The OpenAPI document of a loaded model; `documentation.py` asks for it when somebody looks."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import GenericAlias
from typing import Annotated, Any, Literal, TypeAlias, Union
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import Field, create_model

from model_server import openapi_shapes as shapes
from model_server import version
from model_server.inputs.layout import Layout
from model_server.lifecycle import Loaded
from model_server.package.metadata import Feature
from model_server.telemetry import Identity

_Responses: TypeAlias = dict[int | str, dict[str, Any]]

_LOCKED: _Responses = {401: {"model": shapes.Error, "description": "The API key is missing or not valid."}}
_UNKNOWN: _Responses = {404: {"model": shapes.Error, "description": "This model or version is not served here."}}
_BODY: _Responses = {
    400: {"model": shapes.Error, "description": "The body cannot be read."},
    408: {"model": shapes.Error, "description": "The body did not arrive in time."},
    413: {"model": shapes.Error, "description": "Too many bytes or rows."},
    415: {"model": shapes.Error, "description": "Not a content type this route reads."},
    422: {"model": shapes.Error, "description": "The input does not fit the model; each fault names its field."},
    500: {"model": shapes.Error, "description": "The model failed on this input."},
    503: {"model": shapes.Error, "description": "The model is not ready, or too many requests are waiting."},
    504: {"model": shapes.Error, "description": "No prediction within the request timeout."},
}
_BINARY: _Responses = {
    200: {"content": {"application/octet-stream": {}}, "description": "Tensors in JSON or as bytes."}
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One route as the document shows it."""

    method: str
    path: str
    summary: str
    tag: str
    answer: Any
    body: Any = None
    responses: _Responses = field(default_factory=dict)


def describe(loaded: Loaded, *, max_rows: int) -> dict[str, Any]:
    """The document: names, ranges, categories and examples of the features are those of model.yaml."""
    identity, metadata = loaded.identity, loaded.metadata
    app = FastAPI(
        title=metadata.name or identity.model,
        version=identity.version or "0",
        description=metadata.description or f"A {identity.format} model, served by modeldeploy {version()}.",
    )
    request = _request_model(loaded.layout, max_rows)
    response = _response_model(metadata.output_features)
    operations = [
        *_predictions(identity, request, response),
        *_model_operations(identity),
        *_server_operations(),
    ]
    for operation in operations:
        _add(app, operation)
    document = app.openapi()
    # FastAPI's own error shapes are never answered here.
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    return document


def _add(app: FastAPI, operation: Operation) -> None:
    def with_body(body: Any) -> Any:
        raise NotImplementedError

    def without_body() -> Any:
        raise NotImplementedError

    endpoint = without_body if operation.body is None else with_body
    endpoint.__annotations__ = {"return": operation.answer} | (
        {} if operation.body is None else {"body": operation.body}
    )
    app.add_api_route(
        operation.path,
        endpoint,
        methods=[operation.method],
        name=operation.summary,
        summary=operation.summary,
        tags=[operation.tag],
        responses=operation.responses,
        response_class=PlainTextResponse if operation.answer is str else JSONResponse,
    )


def _predictions(identity: Identity, request: Any, response: Any) -> list[Operation]:
    """What answers predictions, and takes feedback on them."""
    tables = shapes.SplitTable | shapes.RecordsTable | shapes.Instances | shapes.Columns
    asked = _LOCKED | _BODY
    named = asked | _UNKNOWN
    v1 = f"/v1/models/{identity.model}:predict"
    return [
        Operation("POST", "/predict", "Predict rows", "predict", response, request, asked),
        Operation("POST", v1, "Predict rows (V1)", "v1", response, request, named),
        *(
            Operation(
                "POST", f"{v2}/infer", "Infer (V2)", "v2", shapes.InferResponse, shapes.InferRequest, named | _BINARY
            )
            for v2 in _v2_paths(identity)
        ),
        Operation("POST", "/invocations", "Score a table (MLflow)", "mlflow", response, tables, asked),
        Operation("POST", "/feedback", "Tell what was right", "feedback", shapes.Status, shapes.Feedback, named),
    ]


def _v2_paths(identity: Identity) -> list[str]:
    """Where V2 finds the model: by its name alone, and by its version if it has one."""
    named = f"/v2/models/{identity.model}"
    return [named, f"{named}/versions/{quote(identity.version, safe='')}"] if identity.version else [named]


def _model_operations(identity: Identity) -> list[Operation]:
    """What tells about the model."""
    named = _LOCKED | _UNKNOWN
    ready = named | _unavailable(shapes.ModelReady)
    described = named | _unavailable(shapes.Error)
    v1 = f"/v1/models/{identity.model}"
    return [
        Operation("GET", "/v1/models", "Models (V1)", "v1", shapes.V1Models, responses=_LOCKED),
        Operation("GET", v1, "Is the model ready (V1)", "v1", shapes.ModelReady, responses=ready),
        *(
            operation
            for v2 in _v2_paths(identity)
            for operation in (
                Operation("GET", v2, "What the model takes (V2)", "v2", shapes.ModelMetadata, responses=described),
                Operation("GET", f"{v2}/ready", "Is the model ready (V2)", "v2", shapes.ModelReady, responses=ready),
            )
        ),
    ]


def _server_operations() -> list[Operation]:
    """What tells about the server, and is open to everybody."""
    return [
        Operation("GET", "/livez", "Does the server run", "health", shapes.Status),
        _probe("/readyz", "Phase of the server", "health", shapes.Phase),
        _probe("/ping", "Is the server ready (MLflow)", "mlflow", shapes.Empty),
        _probe("/health", "Is the server ready (MLflow's other name)", "mlflow", shapes.Empty),
        Operation("GET", "/version", "The server's version (MLflow)", "mlflow", str),
        Operation("GET", "/v2", "About the server (V2)", "v2", shapes.ServerMetadata),
        Operation("GET", "/v2/health/live", "Does the server run (V2)", "v2", shapes.Live),
        _probe("/v2/health/ready", "Is the server ready (V2)", "v2", shapes.Ready),
        Operation("GET", "/metrics", "Metrics for Prometheus", "health", str),
    ]


def _probe(path: str, summary: str, tag: str, shape: Any) -> Operation:
    return Operation("GET", path, summary, tag, shape, responses=_unavailable(shape))


def _unavailable(shape: Any) -> _Responses:
    return {503: {"model": shape, "description": "The model is not ready."}}


def _request_model(layout: Layout, max_rows: int) -> Any:
    row: Any = Any
    if layout.features:
        fields: Any = {f"f{index}": _field(feature) for index, feature in enumerate(layout.features)}
        named = create_model("Row", __config__=shapes.FORBID, __doc__="One row, by feature names.", **fields)
        columns: Any = tuple(Annotated[_type(feature), _within(feature)] for feature in layout.features)
        listed: Any = Annotated[_tuple_of(columns), Field(description="One row, in the features' order.")]
        row = Union[named, listed]  # noqa: UP007
    rows: Any = Annotated[_list_of(row), Field(min_length=1, max_length=max_rows)]
    return create_model(
        "PredictRequest",
        __config__=shapes.FORBID,
        instances=(rows, ...),
        parameters=(shapes.Parameters, shapes.Parameters(probabilities=False)),
    )


def _response_model(outputs: tuple[Feature, ...]) -> Any:
    if len(outputs) == 1:
        # NaN and infinity become null in an answer.
        kind = _plain_type(outputs[0])
        prediction = kind | None if kind is float else kind
    elif outputs:
        fields: Any = {f"f{index}": _field(feature) for index, feature in enumerate(outputs)}
        prediction = create_model("Prediction", **fields)
    else:
        prediction = Any
    return create_model(
        "PredictResponse",
        predictions=(_list_of(prediction), ...),
        probabilities=(list[list[float | None]] | None, None),
        classes=(list[Any] | None, None),
        model_name=(str, ...),
        model_version=(str, ...),
    )


def _list_of(item: Any) -> Any:
    return GenericAlias(list, (item,))


def _tuple_of(items: tuple[Any, ...]) -> Any:
    return GenericAlias(tuple, items)


def _plain_type(feature: Feature) -> Any:
    if feature.categories is not None:
        return Literal[feature.categories]
    if feature.dtype == "string":
        return str
    if feature.dtype == "bool":
        return bool
    return int if feature.is_integer else float


def _type(feature: Feature) -> Any:
    kind = _plain_type(feature)
    return kind | None if feature.nullable else kind


def _field(feature: Feature) -> tuple[Any, Any]:
    details: dict[str, Any] = {"description": feature.description or None}
    if feature.example is not None:
        details["examples"] = [feature.example]
    default = None if feature.nullable else ...
    return Annotated[_type(feature), _within(feature)], Field(default, alias=feature.name, **details)


def _within(feature: Feature) -> Any:
    low, high = feature.range or (None, None)
    return Field(ge=low, le=high)
