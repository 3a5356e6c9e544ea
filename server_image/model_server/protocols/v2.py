"""The Open Inference Protocol (V2) over REST, as KServe, Triton and MLServer speak it.

Tensors are JSON or, with the extension of `binary.py`, bytes behind the JSON, in both directions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import orjson

from model_server.errors import InvalidInput, PredictionError, RequestTooLarge
from model_server.http import Request, Response, parse_json
from model_server.inputs.layout import Layout, shown
from model_server.lifecycle import Loaded
from model_server.protocols.binary import HEAD_LENGTH, MEDIA_TYPE, Tail, encoded, head_length
from model_server.protocols.call import Call, limit_rows, require_object, type_name
from model_server.runtimes.base import Model
from model_server.telemetry import Identity
from model_server.tensors import DTYPES, Array, Outputs, Tensor, as_json, datatype_of

#: One for each feature is the most that makes sense.
MOST_TENSORS = 10_000


def decode(request: Request, layout: Layout, model: Model, known: tuple[Tensor, ...], *, max_rows: int) -> Call:
    """Arrays of the inference request. Raises RequestErrors that name the tensor."""
    body = request.body
    end = head_length(request.headers, len(body))
    document = require_object(request.json() if end is None else parse_json(body[:end]))
    tail = None if end is None else Tail(memoryview(body)[end:])
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        what = "is missing" if "inputs" not in document else f"expected a list of tensors, got {shown(inputs)}"
        raise InvalidInput.at("inputs", what)
    if len(inputs) > MOST_TENSORS:
        raise RequestTooLarge(f"inputs: {len(inputs)} tensors, and {MOST_TENSORS} are allowed in one request")
    plain = b"true" not in body and b"false" not in body
    tensors: dict[str, Array] = {}
    for index, entry in enumerate(inputs):
        name, array = _tensor(entry, f"inputs[{index}]", tail, plain=plain)
        if name in tensors:
            raise InvalidInput.at(f"inputs[{index}].name", f"{name!r} is given twice")
        tensors[name] = array
    if tail is not None:
        tail.require_empty()
    limit_rows(len(next(iter(tensors.values()))), max_rows, "inputs[0].shape")
    arrays = layout.from_tensors(tensors)
    if len(arrays) > 1 and len({len(array) for array in arrays.values()}) > 1:
        raise InvalidInput.at("inputs", "expected the same number of rows in each tensor")
    identifier = document.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise InvalidInput.at("id", f"expected a string, got {type_name(identifier)}")
    call = Call(inputs=arrays, id=identifier, all_binary=_flag(document, "binary_data_output", "parameters"))
    if document.get("outputs"):
        call.outputs, call.binary_outputs = _requested(document["outputs"], known)
        call.probabilities = model.probabilities in call.outputs
    return call


def _tensor(entry: Any, where: str, tail: Tail | None, *, plain: bool) -> tuple[str, Array]:
    if not isinstance(entry, dict):
        raise InvalidInput.at(where, f"expected an object, got {type_name(entry)}")
    try:
        name, shape, datatype = entry["name"], entry["shape"], entry["datatype"]
    except KeyError as missing:
        raise InvalidInput.at(f"{where}.{missing.args[0]}", "is missing") from None
    if not isinstance(name, str):
        raise InvalidInput.at(f"{where}.name", f"expected a string, got {type_name(name)}")
    if not isinstance(datatype, str) or datatype not in DTYPES:
        raise InvalidInput.at(f"{where}.datatype", f"expected one of {', '.join(DTYPES)}, got {shown(datatype)}")
    shape = shape_of(shape, where)
    if tail is not None and "data" not in entry:
        parameters = entry.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        return name, tail.take(size, datatype, math.prod(shape), where).reshape(shape)
    data = entry.get("data")
    if not isinstance(data, list):
        what = f"expected a list, got {type_name(data)}" if "data" in entry else "is missing"
        raise InvalidInput.at(f"{where}.data", what)
    array = _text_array(data, where) if datatype == "BYTES" else _number_array(data, datatype, where, plain=plain)
    return name, reshaped(array, shape, where)


def _flag(holder: Mapping[str, Any], name: str, field: str) -> bool:
    """A boolean in an object's `parameters`, False when it is absent."""
    parameters = holder.get("parameters")
    if parameters is None:
        return False
    if not isinstance(parameters, dict):
        raise InvalidInput.at(field, f"expected an object, got {type_name(parameters)}")
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise InvalidInput.at(f"{field}.{name}", f"expected true or false, got {type_name(value)}")
    return value


def shape_of(shape: Any, where: str) -> list[int]:
    """A V2 shape: at least the row dimension, no negative sizes. Raises InvalidInput."""
    if isinstance(shape, list) and 0 < len(shape) <= 32:
        for size in shape:
            if type(size) is not int or not 0 <= size < 2**31:
                break
        else:
            return shape
    raise InvalidInput.at(f"{where}.shape", f"expected a list of sizes, rows first, got {shown(shape)}")


def reshaped(array: Array, shape: list[int], where: str) -> Array:
    """Flat or nested data in its declared shape. Raises InvalidInput when the counts differ."""
    count = math.prod(shape)
    if array.size != count:
        raise InvalidInput.at(f"{where}.data", f"shape {shape} needs {count} values, got {array.size}")
    return array.reshape(shape)


def _number_array(data: list[Any], datatype: str, where: str, *, plain: bool) -> Array:
    try:
        array = np.array(data)
    except ValueError:
        raise InvalidInput.at(f"{where}.data", "expected a flat list, or nested lists of equal lengths") from None
    dtype = DTYPES[datatype]
    if array.size == 0:
        return array.astype(dtype)
    kinds = "b" if datatype == "BOOL" else "fiu"
    if array.dtype.kind not in kinds or (not plain and datatype != "BOOL" and _holds_truth(data)):
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
            raise InvalidInput.at(f"{where}.data", f"expected values that fit {datatype_of(dtype)}, got {shown(value)}")
    return np.array([int(value) for value in values.flat], dtype=dtype).reshape(values.shape)


def _holds_truth(data: list[Any]) -> bool:
    return any(_holds_truth(value) if isinstance(value, list) else isinstance(value, bool) for value in data)


def _first_strange(data: list[Any], datatype: str) -> str:
    for value in _leaves(data):
        if isinstance(value, bool) is not (datatype == "BOOL") or not isinstance(value, int | float):
            return shown(value)
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
            raise InvalidInput.at(f"{where}.data", f"expected BYTES values as strings, got {shown(value)}")
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    return array


def _requested(outputs: Any, known: tuple[Tensor, ...]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The outputs that are asked for, and those of them that are wanted as bytes."""
    if not isinstance(outputs, list):
        raise InvalidInput.at("outputs", f"expected a list, got {type_name(outputs)}")
    names = [tensor.name for tensor in known]
    wanted, binary = [], []
    for index, entry in enumerate(outputs):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or (names and name not in names):
            got = shown(name if isinstance(entry, dict) else entry)
            expected = ", ".join(names) or "the outputs"
            raise InvalidInput.at(f"outputs[{index}].name", f"expected one of {expected}, got {got}")
        wanted.append(name)
        if _flag(entry, "binary_data", f"outputs[{index}].parameters"):
            binary.append(name)
    return tuple(dict.fromkeys(wanted)), frozenset(binary)


def encode(outputs: Outputs, call: Call, identity: Identity) -> Response:
    """The inference response: the requested outputs, or all that were computed, in JSON or as bytes."""
    names = [name for name in call.outputs or outputs if name in outputs]
    tensors, chunks = [], []
    for name in names:
        if call.all_binary or name in call.binary_outputs:
            described, chunk = _as_bytes(name, outputs[name])
            chunks.append(chunk)
        else:
            described = _as_json(name, outputs[name])
        tensors.append(described)
    answer: dict[str, Any] = {"model_name": identity.model, "model_version": identity.version, "outputs": tensors}
    if call.id is not None:
        answer["id"] = call.id
    try:
        head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise PredictionError("the model's answer cannot be written as JSON") from error
    if not chunks:
        return Response(200, head)
    return Response(200, b"".join((head, *chunks)), MEDIA_TYPE, [(HEAD_LENGTH, b"%d" % len(head))])


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


def model_metadata(loaded: Loaded) -> Mapping[str, Any]:
    """`GET /v2/models/{name}`."""
    return {
        "name": loaded.identity.model,
        "versions": [loaded.identity.version] if loaded.identity.version else [],
        "platform": f"modeldeploy_{loaded.identity.format}",
        "inputs": [_metadata_tensor(tensor) for tensor in loaded.layout.tensors],
        "outputs": [_metadata_tensor(tensor) for tensor in loaded.outputs],
    }


def _metadata_tensor(tensor: Tensor) -> Mapping[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
