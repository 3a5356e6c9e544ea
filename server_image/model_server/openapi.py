"""The OpenAPI document of a loaded model; `documentation.py` asks for it when somebody looks."""

from __future__ import annotations

from types import GenericAlias
from typing import Annotated, Any, Literal, Union

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, create_model

from model_server import __version__
from model_server.inputs.layout import Layout
from model_server.lifecycle import Loaded
from model_server.package.metadata import Feature
from model_server.tensors import DTYPES

_FORBID = ConfigDict(extra="forbid")


class ErrorDetail(BaseModel):
    """One fault of the input."""

    field: str = Field(examples=["instances[3].age"])
    message: str = Field(examples=['expected a number, got "abc"'])


class Error(BaseModel):
    """What every refused request is answered with."""

    error: str = Field(description="A sentence that says what was wrong and what was expected.")
    reason: str = Field(description="One stable word for programs.", examples=["InvalidInput"])
    hint: str | None = None
    details: list[ErrorDetail] | None = Field(None, description="Each fault, for `InvalidInput`.")


class Parameters(BaseModel):
    """What should come back."""

    model_config = _FORBID
    probabilities: bool = Field(False, description="Add the classifier's probabilities and its classes.")


class Phase(BaseModel):
    """How far the server is."""

    phase: Literal["downloading", "loading", "warming", "ready", "draining", "failed"]
    message: str


class RequestTensor(BaseModel):
    """A named tensor with its data, flat in row-major order or nested."""

    name: str
    shape: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    datatype: Literal[tuple(DTYPES)]  # type: ignore[valid-type]
    parameters: dict[str, Any] | None = None
    data: list[Any]


class RequestOutput(BaseModel):
    """An output that should come back."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(BaseModel):
    """An Open Inference Protocol request."""

    id: str | None = None
    parameters: dict[str, Any] | None = None
    inputs: list[RequestTensor] = Field(min_length=1)
    outputs: list[RequestOutput] | None = None


class InferResponse(BaseModel):
    """An Open Inference Protocol response."""

    model_name: str
    model_version: str | None = None
    id: str | None = None
    outputs: list[RequestTensor]


_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Error, "description": "The body cannot be read."},
    404: {"model": Error, "description": "This model or version is not served here."},
    408: {"model": Error, "description": "The body did not arrive in time."},
    413: {"model": Error, "description": "Too many bytes or rows."},
    415: {"model": Error, "description": "Not a content type this route reads."},
    422: {"model": Error, "description": "The input does not fit the model; each fault names its field."},
    500: {"model": Error, "description": "The model failed on this input."},
    503: {"model": Error, "description": "The model is not ready, or too many requests are waiting."},
    504: {"model": Error, "description": "No prediction within the request timeout."},
}


def describe(loaded: Loaded, *, max_rows: int) -> dict[str, Any]:
    """The document: names, ranges, categories and examples of the features are those of model.yaml."""
    identity, metadata = loaded.identity, loaded.metadata
    app = FastAPI(
        title=metadata.name or identity.model,
        version=identity.version or "0",
        description=metadata.description or f"A {identity.format} model, served by modeldeploy {__version__}.",
    )
    request = _request_model(loaded.layout, max_rows)
    response = _response_model(metadata.output_features)

    def predict(body: request) -> response:  # type: ignore[valid-type]
        raise NotImplementedError

    def infer(body: InferRequest) -> InferResponse:
        raise NotImplementedError

    def probe() -> Phase:
        raise NotImplementedError

    predict.__annotations__ = {"body": request, "return": response}
    infer.__annotations__ = {"body": InferRequest, "return": InferResponse}
    probe.__annotations__ = {"return": Phase}
    name = identity.model
    app.post("/predict", summary="Predict rows", responses=_REFUSALS, tags=["predict"])(predict)
    app.post(f"/v1/models/{name}:predict", summary="Predict rows (V1)", responses=_REFUSALS, tags=["v1"])(predict)
    app.post(f"/v2/models/{name}/infer", summary="Infer (V2)", responses=_REFUSALS, tags=["v2"])(infer)
    app.get("/readyz", summary="Phase of the server", responses={503: {"model": Phase}}, tags=["health"])(probe)
    document = app.openapi()
    # FastAPI's own error shapes are never answered here.
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    return document


def _request_model(layout: Layout, max_rows: int) -> Any:
    row: Any = Any
    if layout.features:
        fields: Any = {f"f{index}": _field(feature) for index, feature in enumerate(layout.features)}
        named = create_model("Row", __config__=_FORBID, __doc__="One row, by feature names.", **fields)
        kinds = tuple(dict.fromkeys(_type(feature) for feature in layout.features))
        count = len(layout.features)
        length = Field(min_length=count, max_length=count, description="One row, in the features' order.")
        listed: Any = Annotated[_list_of(Union[kinds]), length]  # noqa: UP007 - the kinds are known at run time
        row = Union[named, listed]  # noqa: UP007
    rows: Any = Annotated[_list_of(row), Field(min_length=1, max_length=max_rows)]
    return create_model(
        "PredictRequest",
        __config__=_FORBID,
        instances=(rows, ...),
        parameters=(Parameters, Parameters(probabilities=False)),
    )


def _response_model(outputs: tuple[Feature, ...]) -> Any:
    if len(outputs) == 1:
        prediction = _plain_type(outputs[0])
    elif outputs:
        fields: Any = {f"f{index}": _field(feature) for index, feature in enumerate(outputs)}
        prediction = create_model("Prediction", **fields)
    else:
        prediction = Any
    return create_model(
        "PredictResponse",
        predictions=(_list_of(prediction), ...),
        probabilities=(list[list[float]] | None, None),
        classes=(list[Any] | None, None),
        model_name=(str, ...),
        model_version=(str, ...),
    )


def _list_of(item: Any) -> Any:
    return GenericAlias(list, (item,))


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
    low, high = feature.range or (None, None)
    details: dict[str, Any] = {"description": feature.description or None, "ge": low, "le": high}
    if feature.example is not None:
        details["examples"] = [feature.example]
    default = None if feature.nullable else ...
    return _type(feature), Field(default, alias=feature.name, **details)
