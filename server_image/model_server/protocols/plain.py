"""`POST /predict`, and V1's `:predict` which has the same shape: rows as objects or lists.

{"instances": [{"age": 31}, [32]], "parameters": {"probabilities": true}}
{"predictions": [0, 1], "model_name": "fraud", "model_version": "7"}
"""

from __future__ import annotations

from typing import Any

import orjson

from model_server.errors import InvalidInput, PredictionError, Problem
from model_server.http import Request
from model_server.inputs.layout import MOST_PROBLEMS, Layout
from model_server.protocols.call import Call, limit_rows, require_object, type_name
from model_server.runtimes.base import Model
from model_server.telemetry import Identity
from model_server.tensors import Outputs, as_json

_FIELDS = frozenset({"instances", "parameters"})


def decode(
    request: Request, layout: Layout, model: Model, *, max_rows: int, ignored: frozenset[str] = frozenset()
) -> Call:
    """Arrays of the instances. Raises RequestErrors that name row and feature."""
    document = require_object(request.json())
    if not document.keys() <= _FIELDS | ignored:
        strange = sorted(document.keys() - _FIELDS - ignored)[:MOST_PROBLEMS]
        raise InvalidInput(
            [Problem(name, "is not a field of this request; known are instances, parameters") for name in strange]
        )
    instances = document.get("instances")
    if not isinstance(instances, list):
        what = "is missing" if "instances" not in document else f"expected a list, got {type_name(instances)}"
        raise InvalidInput.at("instances", what)
    limit_rows(len(instances), max_rows, "instances")
    body = request.body
    plain = b"true" not in body and b"false" not in body and b"null" not in body
    probabilities = _parameters(document.get("parameters"), model) if "parameters" in document else False
    return Call(inputs=layout.from_instances(instances, plain=plain), probabilities=probabilities)


def _parameters(parameters: Any, model: Model) -> bool:
    if not isinstance(parameters, dict):
        raise InvalidInput.at("parameters", f"expected an object, got {type_name(parameters)}")
    for name in parameters:
        if name != "probabilities":
            raise InvalidInput.at(f"parameters.{name}", "is not a parameter; known is probabilities")
    wanted = parameters.get("probabilities", False)
    if not isinstance(wanted, bool):
        raise InvalidInput.at("parameters.probabilities", f"expected true or false, got {type_name(wanted)}")
    if wanted and not model.probabilities:
        raise InvalidInput.at("parameters.probabilities", "this model gives no probabilities")
    return wanted


def encode(outputs: Outputs, model: Model, identity: Identity, *, probabilities: bool) -> bytes:
    """The answer. NaN and infinity become null, as JSON has no word for them."""
    answer: dict[str, Any] = {}
    values = dict(outputs)
    if probabilities:
        answer["probabilities"] = values.pop(model.probabilities).tolist()
        if model.classes:
            answer["classes"] = list(model.classes)
    if len(values) == 1:
        (array,) = values.values()
        predictions = array.tolist()
    else:
        columns = zip(*(array.tolist() for array in values.values()), strict=True)
        predictions = [dict(zip(values, row, strict=True)) for row in columns]
    answer = {
        "predictions": predictions,
        **answer,
        "model_name": identity.model,
        "model_version": identity.version,
    }
    try:
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS, default=as_json)
    except TypeError as error:
        raise PredictionError("the model's answer cannot be written as JSON") from error
