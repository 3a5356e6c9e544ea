"""`POST /invocations`, as MLflow's scoring server takes it: tables in two forms, instances, inputs, CSV.

https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/#accepted-input-formats
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from model_server.domain.features import Feature
from model_server.domain.model import InferenceRequest, InputAdapter, LoadedModel
from model_server.domain.tensors import Outputs
from model_server.errors import InvalidInput, MalformedRequest, RequestTooLarge
from model_server.inputs.adapter import preview
from model_server.inputs.text import named_twice, number_or_text, value_of
from model_server.protocols.checks import limit_rows, require_object, rows_of_columns, type_name
from model_server.protocols.payload import Answer, Payload
from model_server.protocols.v1 import predictions

#: The content type of a table as text.
CSV = b"text/csv"
_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")


class Tables:
    """The codec of tables; answers are those of `v1`."""

    def decode(self, payload: Payload, loaded: LoadedModel, *, max_rows: int) -> InferenceRequest:
        """Arrays of the table. Raises RequestErrors that name row and column."""
        if payload.content_type == CSV:
            rows = _from_csv(payload.body, loaded.adapter, max_rows)
        else:
            document = require_object(payload.json())
            _check_params(document.get("params"), loaded.params)
            rows = _rows(document)
        limit_rows(len(rows), max_rows, "rows")
        rows = _by_place(rows, loaded.adapter)
        return InferenceRequest(inputs=loaded.adapter.from_instances(rows, numbers_only=False))

    def encode(self, outputs: Outputs, request: InferenceRequest, loaded: LoadedModel) -> Answer:
        """The predictions."""
        return Answer(predictions(outputs, loaded, probabilities=False))


def _rows(document: dict[str, object]) -> list[Any]:
    forms = [name for name in _FORMS if name in document]
    if len(forms) != 1 or document.keys() - {"params", *forms}:
        raise InvalidInput.at(
            "", f"expected exactly one of {', '.join(_FORMS)}, got {', '.join(document) or 'nothing'}"
        )
    value = document[forms[0]]
    if forms[0] == "dataframe_split":
        return _split(value)
    if forms[0] == "inputs" and isinstance(value, dict):
        return rows_of_columns(value)
    if not isinstance(value, list):
        raise InvalidInput.at(forms[0], f"expected a list, got {type_name(value)}")
    return value


def _by_place(rows: list[Any], adapter: InputAdapter) -> list[Any]:
    """Columns that are called 0, 1, 2, ..., as those of an array, for a model whose features have no names."""
    features = adapter.features
    if any(feature.name != f"x{place}" for place, feature in enumerate(features)):
        return rows
    if features:
        names = {str(place): feature.name for place, feature in enumerate(features)}
        return [{names.get(key, key): one for key, one in row.items()} if type(row) is dict else row for row in rows]
    if all(type(row) is dict and list(row) == [str(place) for place in range(len(row))] for row in rows):
        return [list(row.values()) for row in rows]
    return rows


#: MLflow's names of types, and what JSON has for them.
_PARAMS: Mapping[str, tuple[type, ...]] = {
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "string": (str,),
    "boolean": (bool,),
    "datetime": (str,),
}


def _check_params(given: Any, declared: Mapping[str, str]) -> None:
    """Raise InvalidInput for params that are not of the types that the signature declares. Nothing here uses them."""
    if given is None:
        return
    if not isinstance(given, dict):
        raise InvalidInput.at("params", f"expected an object, got {type_name(given)}")
    for name, value in given.items():
        kinds = _PARAMS.get(declared.get(name, ""))
        is_boolean = isinstance(value, bool)
        if kinds is not None and not (isinstance(value, kinds) and (not is_boolean or bool in kinds)):
            raise InvalidInput.at(f"params.{name}", f"expected a value of type {declared[name]}, got {preview(value)}")


def _split(value: object) -> list[Any]:
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        raise InvalidInput.at("dataframe_split.data", "expected a list of rows")
    index = value.get("index")
    if index is not None and not (isinstance(index, list) and len(index) == len(value["data"])):
        got = f"{len(index)} values" if isinstance(index, list) else type_name(index)
        raise InvalidInput.at("dataframe_split.index", f"expected one for each of {len(value['data'])} rows, got {got}")
    columns = value.get("columns")
    if columns is None:
        return list(value["data"])
    # Whole numbers are what pandas calls the columns of an array.
    if not isinstance(columns, list) or not all(isinstance(name, str) or type(name) is int for name in columns):
        raise InvalidInput.at("dataframe_split.columns", "expected a list of names")
    columns = [str(name) for name in columns]
    _require_single(columns, "dataframe_split.columns")
    rows = []
    for index, row in enumerate(value["data"]):
        if not isinstance(row, list) or len(row) != len(columns):
            raise InvalidInput.at(f"dataframe_split.data[{index}]", f"expected {len(columns)} values")
        rows.append(dict(zip(columns, row, strict=True)))
    return rows


def _from_csv(body: bytes, adapter: InputAdapter, max_rows: int) -> list[Any]:
    try:
        reader = csv.DictReader(io.StringIO(body.decode("utf-8-sig")), strict=True, restkey="")
        # One more than allowed is enough to refuse them all.
        rows = list(islice(reader, max_rows + 1))
    except (csv.Error, UnicodeDecodeError) as error:
        raise MalformedRequest(f"the body is not CSV: {error}") from None
    _require_single(reader.fieldnames or (), "the header")
    if len(rows) > max_rows:
        raise RequestTooLarge(f"rows: more than the {max_rows} that are allowed in one request", hint="Send several.")
    features = {feature.name: feature for feature in adapter.features}
    return [{name: _cell(text, features.get(name)) for name, text in row.items()} for row in rows]


def _cell(text: Any, feature: Feature | None) -> Any:
    """A short row has no text in its last cells, and a long one a list behind them."""
    return value_of(text, feature) if feature is not None and isinstance(text, str) else number_or_text(text)


def _require_single(names: Sequence[str], where: str) -> None:
    if twice := named_twice(names):
        raise InvalidInput.at(where, f"has two columns {twice!r}")
