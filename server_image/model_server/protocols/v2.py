"""The Open Inference Protocol (V2) over REST, as KServe, Triton and MLServer speak it.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md

Tensors are JSON or, with the extension of `binary.py`, bytes behind the JSON, in both directions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from model_server.domain.explanations import Explanation
from model_server.domain.model import InferenceRequest, LoadedModel
from model_server.domain.tensors import DTYPES, Array, Inputs, Outputs, Tensor, as_json, datatype_of
from model_server.errors import InvalidInput, PredictionError, RequestTooLarge
from model_server.inputs.adapter import holds_boolean, preview
from model_server.protocols.binary import HEAD_LENGTH, MEDIA_TYPE, Tail, encoded, head_length
from model_server.protocols.checks import limit_rows, require_object, type_name
from model_server.protocols.content_types import table_rows, with_content_type
from model_server.protocols.explanations import as_outputs, kind_of
from model_server.protocols.payload import Answer, Payload, parse_json

#: One for each feature is the most that makes sense.
MOST_TENSORS = 10_000
#: NumPy holds 64, and 32 in its first version.
MOST_DIMENSIONS = 32


class Tensors:
    """The codec of inference requests, in JSON or with tensors as bytes behind it."""

    def decode(self, payload: Payload, loaded: LoadedModel, *, max_rows: int) -> InferenceRequest:
        """Arrays of the tensors. Raises RequestErrors that name the tensor."""
        body = payload.body
        end = head_length(payload.headers, len(body))
        if end == 0:
            arrays = loaded.adapter.from_tensors(_raw_tensor(body, loaded.adapter.tensors, max_rows))
            return InferenceRequest(inputs=arrays)
        document = require_object(payload.json() if end is None else parse_json(body[:end]))
        tail = None if end is None else Tail(memoryview(body)[end:])
        if rows := table_rows(document):
            limit_rows(len(rows), max_rows, "inputs[0].data")
            return self._request(document, loaded.adapter.from_instances(rows, numbers_only=False), loaded)
        tensors = _tensors(document, tail, numbers_only=_is_numbers_only(body, end))
        limit_rows(len(next(iter(tensors.values()))), max_rows, "inputs[0].shape")
        arrays = loaded.adapter.from_tensors(tensors)
        if len(arrays) > 1 and len({len(array) for array in arrays.values()}) > 1:
            raise InvalidInput.at("inputs", "expected the same number of rows in each tensor")
        return self._request(document, arrays, loaded)

    def _request(self, document: Mapping[str, Any], arrays: Inputs, loaded: LoadedModel) -> InferenceRequest:
        identifier = document.get("id")
        if identifier is not None and not isinstance(identifier, str):
            raise InvalidInput.at("id", f"expected a string, got {type_name(identifier)}")
        request = InferenceRequest(
            inputs=arrays, id=identifier, all_binary=_flag(document, "binary_data_output", "parameters")
        )
        if _flag(document, "explain", "parameters"):
            if document.get("outputs") is not None:
                raise InvalidInput.at("outputs", "leave it out with parameters.explain, whose outputs are its own")
            request.explains = True
            return request
        if document.get("outputs") is not None:
            names, request.binary_outputs = _requested(document["outputs"], all_binary=request.all_binary)
            # What an output says of itself goes before what the request says of all.
            request.all_binary = request.all_binary and not names
            want_outputs(request, names, loaded)
        return request

    def explained(self, explanation: Explanation, request: InferenceRequest, loaded: LoadedModel) -> Answer:
        """The contributions as tensors; how they were found, and their scale, as parameters."""
        kind = kind_of(loaded)
        parameters = {"method": kind.method, "scale": kind.scale}
        return self._answer(as_outputs(explanation, loaded), request, loaded, parameters)

    def encode(self, outputs: Outputs, request: InferenceRequest, loaded: LoadedModel) -> Answer:
        """The requested outputs, or all that were computed, in JSON or as bytes."""
        return self._answer(outputs, request, loaded, {})

    def _answer(
        self, outputs: Outputs, request: InferenceRequest, loaded: LoadedModel, parameters: Mapping[str, str]
    ) -> Answer:
        tensors, chunks = [], []
        for name in wanted_names(outputs, request):
            if request.all_binary or name in request.binary_outputs:
                described, chunk = _as_bytes(name, outputs[name])
                chunks.append(chunk)
            else:
                described = _as_json(name, outputs[name])
            tensors.append(described)
        identity = loaded.identity
        answer: dict[str, Any] = {"model_name": identity.model, "model_version": identity.version, "outputs": tensors}
        if request.id is not None:
            answer["id"] = request.id
        if parameters:
            answer["parameters"] = parameters
        try:
            head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError as error:
            raise PredictionError("the model's answer cannot be written as JSON") from error
        if not chunks:
            return Answer(head)
        return Answer(b"".join((head, *chunks)), MEDIA_TYPE, [(HEAD_LENGTH, b"%d" % len(head))])


def _raw_tensor(body: bytes, tensors: Sequence[Tensor], max_rows: int) -> dict[str, Array]:
    """A body without any JSON: the bytes of the only input, whose rows its size tells (Triton's raw request)."""
    if len(tensors) != 1 or min(tensors[0].shape[1:], default=1) < 0 or tensors[0].datatype == "BYTES":
        raise InvalidInput.at("", "a body without JSON needs a model with one input of numbers, whose sizes are known")
    (tensor,) = tensors
    width = math.prod(tensor.shape[1:]) * tensor.dtype.itemsize
    if len(body) % width:
        raise InvalidInput.at("", f"a row of {tensor.name} has {width} bytes, and the body has {len(body)}")
    rows = len(body) // width
    limit_rows(rows, max_rows, "the body")
    count = rows * math.prod(tensor.shape[1:])
    return {
        tensor.name: Tail(memoryview(body)).take(len(body), tensor.datatype, count, "").reshape(rows, *tensor.shape[1:])
    }


def want_outputs(request: InferenceRequest, names: Sequence[Any], loaded: LoadedModel) -> None:
    """Note which outputs should come back. Raises InvalidInput for one that the model does not give."""
    given = [tensor.name for tensor in loaded.outputs]
    for index, name in enumerate(names):
        if not isinstance(name, str) or (given and name not in given):
            got = repr(name) if isinstance(name, str) else preview(name)
            expected = ", ".join(given) or "the outputs"
            raise InvalidInput.at(f"outputs[{index}].name", f"expected one of {expected}, got {got}")
    request.outputs = tuple(dict.fromkeys(names))
    # Neither is an output of a model that has it not.
    request.probabilities = not {loaded.model.probability_output, loaded.score_output}.isdisjoint(request.outputs)


def wanted_names(outputs: Outputs, request: InferenceRequest) -> list[str]:
    """The names of the outputs that the answer holds, in its order. Raises InvalidInput for one that it has not."""
    for index, name in enumerate(request.outputs):
        if name not in outputs:
            raise InvalidInput.at(f"outputs[{index}].name", f"expected one of {', '.join(outputs)}, got {name!r}")
    return list(request.outputs or outputs)


def _is_numbers_only(body: bytes, end: int | None) -> bool:
    """Whether the JSON of a request holds no true and no false; bytes of tensors say nothing about it."""
    return body.find(b"true", 0, end) < 0 and body.find(b"false", 0, end) < 0


def _tensors(document: dict[str, object], tail: Tail | None, *, numbers_only: bool) -> dict[str, Array]:
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        what = "is missing" if "inputs" not in document else f"expected a list of tensors, got {preview(inputs)}"
        raise InvalidInput.at("inputs", what)
    if len(inputs) > MOST_TENSORS:
        raise RequestTooLarge(f"inputs: {len(inputs)} tensors, and {MOST_TENSORS} are allowed in one request")
    tensors: dict[str, Array] = {}
    for index, entry in enumerate(inputs):
        name, array = _tensor(entry, f"inputs[{index}]", tail, numbers_only=numbers_only)
        if name in tensors:
            raise InvalidInput.at(f"inputs[{index}].name", f"{name!r} is given twice")
        tensors[name] = array
    if tail is not None:
        tail.require_empty()
    return tensors


def _tensor(entry: Any, where: str, tail: Tail | None, *, numbers_only: bool) -> tuple[str, Array]:
    if not isinstance(entry, dict):
        raise InvalidInput.at(where, f"expected an object, got {type_name(entry)}")
    try:
        name, shape, datatype = entry["name"], entry["shape"], entry["datatype"]
    except KeyError as missing:
        raise InvalidInput.at(f"{where}.{missing.args[0]}", "is missing") from None
    if not isinstance(name, str):
        raise InvalidInput.at(f"{where}.name", f"expected a string, got {type_name(name)}")
    if not isinstance(datatype, str) or datatype not in DTYPES:
        raise InvalidInput.at(f"{where}.datatype", f"expected one of {', '.join(DTYPES)}, got {preview(datatype)}")
    shape = shape_of(shape, where)
    if tail is not None and "data" not in entry:
        parameters = entry.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        array = tail.take(size, datatype, math.prod(shape), where).reshape(shape)
        return name, with_content_type(array, parameters, where) if datatype == "BYTES" else array
    data = entry.get("data")
    if not isinstance(data, list):
        what = f"expected a list, got {type_name(data)}" if "data" in entry else "is missing"
        raise InvalidInput.at(f"{where}.data", what)
    if datatype != "BYTES":
        return name, reshaped(_number_array(data, datatype, where, numbers_only=numbers_only), shape, where)
    array = reshaped(_text_array(data, where), shape, where)
    return name, array if "parameters" not in entry else with_content_type(array, entry["parameters"], where)


def _flag(holder: Mapping[str, Any], name: str, field: str, *, default: bool = False) -> bool:
    """A boolean in an object's `parameters`, `default` when it is absent."""
    parameters = holder.get("parameters")
    if parameters is None:
        return default
    if not isinstance(parameters, dict):
        raise InvalidInput.at(field, f"expected an object, got {type_name(parameters)}")
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidInput.at(f"{field}.{name}", f"expected true or false, got {type_name(value)}")
    return value


def shape_of(shape: Any, where: str) -> list[int]:
    """A V2 shape: at least the row dimension, no negative sizes. Raises InvalidInput."""
    if isinstance(shape, list) and 0 < len(shape) <= MOST_DIMENSIONS:
        for size in shape:
            if type(size) is not int or not 0 <= size < 2**31:
                break
        else:
            return shape
    raise InvalidInput.at(f"{where}.shape", f"expected a list of sizes, rows first, got {preview(shape)}")


def reshaped(array: Array, shape: list[int], where: str) -> Array:
    """Flat or nested data in its declared shape. Raises InvalidInput when the counts differ."""
    count = math.prod(shape)
    if array.size != count:
        raise InvalidInput.at(f"{where}.data", f"shape {shape} needs {count} values, got {array.size}")
    return array.reshape(shape)


def _number_array(data: list[Any], datatype: str, where: str, *, numbers_only: bool) -> Array:
    try:
        array = np.array(data)
    except ValueError:
        raise InvalidInput.at(f"{where}.data", "expected a flat list, or nested lists of equal lengths") from None
    dtype = DTYPES[datatype]
    if array.size == 0:
        return array.astype(dtype)
    kinds = "b" if datatype == "BOOL" else "fiu"
    if array.dtype.kind not in kinds or (not numbers_only and datatype != "BOOL" and holds_boolean(data)):
        raise InvalidInput.at(f"{where}.data", f"expected {datatype} values, got {_first_strange(data, datatype)}")
    if array.dtype == dtype:
        return array
    if dtype.kind in "iu" and array.dtype.kind == "f":
        return _whole_numbers(data, dtype, where)
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(dtype)
    fits = (cast == array).all() if dtype.kind in "iu" else np.isfinite(cast).all()
    if not fits:
        raise InvalidInput.at(f"{where}.data", f"expected values that fit {datatype}")
    return cast


def _whole_numbers(data: list[Any], dtype: np.dtype[Any], where: str) -> Array:
    """Whole numbers that NumPy took for floats, for one is written so or is very large, to their last digit."""
    values = np.array(data, dtype=object)
    limits = np.iinfo(dtype)
    for value in values.flat:
        if not (limits.min <= value <= limits.max and value == int(value)):
            raise InvalidInput.at(
                f"{where}.data", f"expected values that fit {datatype_of(dtype)}, got {preview(value)}"
            )
    return np.array([int(value) for value in values.flat], dtype=dtype).reshape(values.shape)


def _first_strange(data: list[Any], datatype: str) -> str:
    for value in _leaves(data):
        if isinstance(value, bool) is not (datatype == "BOOL") or not isinstance(value, int | float):
            return preview(value)
    return "something else"


def _leaves(data: list[Any]) -> Iterator[Any]:
    """The values of nested lists, in their order; each is touched once, and depth costs no recursion."""
    stack = [iter(data)]
    while stack:
        for value in stack[-1]:
            if isinstance(value, list):
                stack.append(iter(value))
                break
            yield value
        else:
            stack.pop()


def _text_array(data: list[Any], where: str) -> Array:
    flat = list(_leaves(data))
    for value in flat:
        if not isinstance(value, str):
            raise InvalidInput.at(f"{where}.data", f"expected BYTES values as strings, got {preview(value)}")
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    return array


def _requested(outputs: Any, *, all_binary: bool) -> tuple[list[Any], frozenset[str]]:
    """The outputs that are asked for, and those of them that are wanted as bytes."""
    if not isinstance(outputs, list):
        raise InvalidInput.at("outputs", f"expected a list, got {type_name(outputs)}")
    names: list[Any] = []
    binary: list[str] = []
    for index, entry in enumerate(outputs):
        name = entry.get("name") if isinstance(entry, dict) else None
        names.append(name)
        if isinstance(name, str) and _flag(entry, "binary_data", f"outputs[{index}].parameters", default=all_binary):
            binary.append(name)
    return names, frozenset(binary)


def _as_json(name: str, array: Array) -> dict[str, Any]:
    datatype = datatype_of(array.dtype)
    flat = array.reshape(-1).tolist()
    data = [as_text(value) for value in flat] if datatype == "BYTES" else flat
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": data}


def _as_bytes(name: str, array: Array) -> tuple[dict[str, Any], bytes]:
    datatype = datatype_of(array.dtype)
    texts = (
        [value if isinstance(value, bytes) else as_text(value) for value in array.reshape(-1).tolist()]
        if datatype == "BYTES"
        else []
    )
    chunk = encoded(array, datatype, texts)
    parameters = {"binary_data_size": len(chunk)}
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "parameters": parameters}, chunk


def as_text(value: Any) -> str:
    """A BYTES element: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return _as_json_text(value)


def _as_json_text(value: Any) -> str:
    try:
        text = orjson.dumps(value, default=as_json, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        raise PredictionError("the model's answer cannot be written as JSON") from error
    return text.decode()


def model_metadata(loaded: LoadedModel) -> Mapping[str, Any]:
    """`GET /v2/models/{name}`."""
    return {
        "name": loaded.identity.model,
        "versions": [loaded.identity.version] if loaded.identity.version else [],
        "platform": f"modeldeploy_{loaded.identity.format}",
        "inputs": [_metadata_tensor(tensor) for tensor in loaded.adapter.tensors],
        "outputs": [_metadata_tensor(tensor) for tensor in loaded.outputs],
    }


def _metadata_tensor(tensor: Tensor) -> Mapping[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
