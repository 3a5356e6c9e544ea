"""The shapes of rows and predictions that follow from model.yaml; `openapi.py` describes them."""

from __future__ import annotations

from datetime import date, datetime
from types import GenericAlias
from typing import Annotated, Any, Literal, Union

from pydantic import Field, create_model

from model_server.domain.features import Feature
from model_server.domain.model import InputAdapter
from model_server.http import schemas


def request_model(adapter: InputAdapter, max_rows: int) -> Any:
    """The body of `/predict`: rows as the model's features have them."""
    return create_model(
        "PredictRequest",
        __config__=schemas.FORBID,
        instances=(_rows(adapter, max_rows), ...),
        parameters=(schemas.Parameters, schemas.Parameters(probabilities=False, scores=False)),
    )


def explain_model(adapter: InputAdapter, max_rows: int) -> Any:
    """The body of `/explain`: the rows of `/predict`."""
    return create_model("ExplainRequest", __config__=schemas.FORBID, instances=(_rows(adapter, max_rows), ...))


def _rows(adapter: InputAdapter, max_rows: int) -> Any:
    row: Any = Any
    if adapter.features:
        fields: Any = {f"f{index}": _field(feature) for index, feature in enumerate(adapter.features)}
        named = create_model("Row", __config__=schemas.FORBID, __doc__="One row, by feature names.", **fields)
        columns: Any = tuple(Annotated[_type(feature), _within(feature)] for feature in adapter.features)
        listed: Any = Annotated[_tuple_of(columns), Field(description="One row, in the features' order.")]
        row = Union[named, listed]  # noqa: UP007
    return Annotated[_list_of(row), Field(min_length=1, max_length=max_rows)]


def response_model(outputs: tuple[Feature, ...]) -> Any:
    """The answer of `/predict`."""
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
        scores=(list[Any] | None, None),
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
    if feature.dtype == "any":
        return Any
    if feature.dtype == "date":
        return date
    if feature.dtype == "datetime":
        return datetime
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
    default = None if feature.is_optional else ...
    return Annotated[_type(feature), _within(feature)], Field(default, alias=feature.name, **details)


def _within(feature: Feature) -> Any:
    low, high = feature.range or (None, None)
    return Field(ge=low, le=high)
