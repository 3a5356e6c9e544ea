"""`POST /predict`, and V1's `:predict` which has the same shape: rows as objects or lists.

{"instances": [{"age": 31}, [32]], "parameters": {"probabilities": true}}
{"predictions": [0, 1], "model_name": "fraud", "model_version": "7"}

V1 is KServe's and TensorFlow Serving's: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from model_server.domain.model import InferenceRequest, LoadedModel
from model_server.domain.tensors import Outputs, as_json
from model_server.errors import InvalidInput, PredictionError, Problem
from model_server.inputs.adapter import MOST_PROBLEMS
from model_server.protocols.checks import limit_rows, require_object, rows_of_columns, type_name
from model_server.protocols.payload import Answer, Payload

_PARAMETERS = ("probabilities", "scores")
_FIELDS = ("instances", "parameters")


class Instances:
    """The codec of rows as JSON. `also` names fields of other servers: `signature_name` says nothing here."""

    def __init__(self, also: Sequence[str] = (), *, takes_parameters: bool = True) -> None:
        own = _FIELDS if takes_parameters else _FIELDS[:1]
        self._known = frozenset(own).union(also)
        self._named = ", ".join(own)

    def decode(self, payload: Payload, loaded: LoadedModel, *, max_rows: int) -> InferenceRequest:
        """Arrays of the instances. Raises RequestErrors that name row and feature."""
        document = require_object(payload.json())
        if not document.keys() <= self._known:
            strange = sorted(document.keys() - self._known)[:MOST_PROBLEMS]
            raise InvalidInput(
                [Problem(name, f"is not a field of this request; known are {self._named}") for name in strange]
            )
        instances = document.get("instances")
        if "inputs" in document:
            instances = _columnar(document)
        if not isinstance(instances, list):
            what = "is missing" if "instances" not in document else f"expected a list, got {type_name(instances)}"
            raise InvalidInput.at("instances", what)
        limit_rows(len(instances), max_rows, "instances")
        probabilities = _parameters(document["parameters"], loaded) if "parameters" in document else False
        inputs = loaded.adapter.from_instances(instances, numbers_only=_is_numbers_only(payload.body))
        return InferenceRequest(inputs=inputs, probabilities=probabilities)

    def encode(self, outputs: Outputs, request: InferenceRequest, loaded: LoadedModel) -> Answer:
        """The predictions. NaN and infinity become null, as JSON has no word for them."""
        return Answer(predictions(outputs, loaded, probabilities=request.probabilities))


def _columnar(document: dict[str, object]) -> list[Any]:
    """`inputs` in place of `instances`: rows, or with TensorFlow Serving's names of columns a list for each."""
    inputs = document["inputs"]
    if "instances" in document:
        raise InvalidInput.at("inputs", "expected instances or inputs, got both")
    if isinstance(inputs, dict):
        return rows_of_columns(inputs)
    if not isinstance(inputs, list):
        raise InvalidInput.at("inputs", f"expected rows or columns, got {type_name(inputs)}")
    return inputs


def _is_numbers_only(body: bytes) -> bool:
    """Whether a JSON document holds no true, false or null; false also where they stand inside a text."""
    return b"true" not in body and b"false" not in body and b"null" not in body


def _parameters(parameters: Any, loaded: LoadedModel) -> bool:
    """Whether probabilities, or the scores of a model without them, are wanted."""
    if not isinstance(parameters, dict):
        raise InvalidInput.at("parameters", f"expected an object, got {type_name(parameters)}")
    for name in parameters:
        if name not in _PARAMETERS:
            raise InvalidInput.at(f"parameters.{name}", f"is not a parameter; known are {', '.join(_PARAMETERS)}")
    options = {name: parameters.get(name, False) for name in _PARAMETERS}
    for name, value in options.items():
        if not isinstance(value, bool):
            raise InvalidInput.at(f"parameters.{name}", f"expected true or false, got {type_name(value)}")
    has_scores, has_probabilities = bool(loaded.score_output), bool(loaded.model.probability_output)
    if options["probabilities"] and not has_probabilities:
        instead = "; it gives scores" if has_scores else ""
        raise InvalidInput.at("parameters.probabilities", f"this model gives no probabilities{instead}")
    if options["scores"] and not has_scores:
        instead = "; it gives probabilities" if has_probabilities else ""
        raise InvalidInput.at("parameters.scores", f"this model gives no scores{instead}")
    return bool(options["probabilities"] or options["scores"])


def predictions(outputs: Outputs, loaded: LoadedModel, *, probabilities: bool) -> bytes:
    """The answer's JSON: `predictions`, and `probabilities` with `classes` when they are wanted."""
    model, identity = loaded.model, loaded.identity
    answer: dict[str, Any] = {}
    values = dict(outputs)
    if probabilities:
        name = "probabilities" if model.probability_output else "scores"
        rated = values.pop(model.probability_output or loaded.score_output)
        answer[name] = rated.tolist()
        # Of two classes there is one score, which is the second's where it is positive.
        if model.classes and (rated.shape[1] if rated.ndim > 1 else 2) == len(model.classes):
            answer["classes"] = list(model.classes)
    if len(values) == 1:
        (array,) = values.values()
        rows = array.tolist()
    else:
        columns = zip(*(array.tolist() for array in values.values()), strict=True)
        rows = [dict(zip(values, row, strict=True)) for row in columns]
    answer = {
        "predictions": rows,
        **answer,
        "model_name": identity.model,
        "model_version": identity.version,
    }
    try:
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS, default=as_json)
    except TypeError as error:
        raise PredictionError("the model's answer cannot be written as JSON") from error
