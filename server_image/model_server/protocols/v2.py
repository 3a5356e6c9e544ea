"""The Open Inference Protocol (V2) over REST, as KServe, Triton and MLServer speak it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from model_server.errors import InvalidInput, PredictionError
from model_server.http import Request
from model_server.inputs.layout import Layout, shown
from model_server.lifecycle import Loaded
from model_server.protocols.call import Call, limit_rows, require_object, type_name
from model_server.runtimes.base import Model
from model_server.telemetry import Identity
from model_server.tensors import DTYPES, Array, Outputs, Tensor, datatype_of


def decode(request: Request, layout: Layout, model: Model, known: tuple[Tensor, ...], *, max_rows: int) -> Call:
    """Arrays of the inference request. Raises RequestErrors that name the tensor."""
    document = require_object(request.json())
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        what = "is missing" if "inputs" not in document else f"expected a list of tensors, got {shown(inputs)}"
        raise InvalidInput.at("inputs", what)
    plain = b"true" not in request.body and b"false" not in request.body
    tensors: dict[str, Array] = {}
    for index, entry in enumerate(inputs):
        name, array = _tensor(entry, f"inputs[{index}]", plain=plain)
        if name in tensors:
            raise InvalidInput.at(f"inputs[{index}].name", f"{name!r} is given twice")
        tensors[name] = array
    limit_rows(len(next(iter(tensors.values()))), max_rows, "inputs[0].shape")
    arrays = layout.from_tensors(tensors)
    if len(arrays) > 1 and len({len(array) for array in arrays.values()}) > 1:
        raise InvalidInput.at("inputs", "expected the same number of rows in each tensor")
    outputs = _requested(document.get("outputs"), model, known)
    identifier = document.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise InvalidInput.at("id", f"expected a string, got {type_name(identifier)}")
    return Call(inputs=arrays, probabilities=model.probabilities in outputs, id=identifier, outputs=outputs)


def _tensor(entry: Any, where: str, *, plain: bool) -> tuple[str, Array]:
    if not isinstance(entry, dict):
        raise InvalidInput.at(where, f"expected an object, got {type_name(entry)}")
    try:
        name, shape, datatype, data = entry["name"], entry["shape"], entry["datatype"], entry["data"]
    except KeyError as missing:
        raise InvalidInput.at(f"{where}.{missing.args[0]}", "is missing") from None
    if not isinstance(name, str):
        raise InvalidInput.at(f"{where}.name", f"expected a string, got {type_name(name)}")
    if not isinstance(datatype, str) or datatype not in DTYPES:
        raise InvalidInput.at(f"{where}.datatype", f"expected one of {', '.join(DTYPES)}, got {shown(datatype)}")
    if not isinstance(data, list):
        raise InvalidInput.at(f"{where}.data", f"expected a list, got {type_name(data)}")
    shape = shape_of(shape, where)
    array = _text_array(data, where) if datatype == "BYTES" else _number_array(data, datatype, where, plain=plain)
    return name, reshaped(array, shape, where)


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
    count = 1
    for size in shape:
        count *= size
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
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(dtype)
    fits = (cast == array).all() if dtype.kind in "iu" else np.isfinite(cast).all()
    if not fits:
        raise InvalidInput.at(f"{where}.data", f"expected values that fit {datatype}")
    return cast


def _holds_truth(data: list[Any]) -> bool:
    return any(_holds_truth(value) if isinstance(value, list) else isinstance(value, bool) for value in data)


def _first_strange(data: Any, datatype: str) -> str:
    flat: list[Any] = [data]
    while flat:
        value = flat.pop(0)
        if isinstance(value, list):
            flat[:0] = value
        elif isinstance(value, bool) is not (datatype == "BOOL") or not isinstance(value, int | float):
            return shown(value)
    return "something else"


def _text_array(data: list[Any], where: str) -> Array:
    flat: list[Any] = []
    stack = [iter(data)]
    while stack:
        for value in stack[-1]:
            if isinstance(value, list):
                stack.append(iter(value))
                break
            if not isinstance(value, str):
                raise InvalidInput.at(f"{where}.data", f"expected BYTES values as strings, got {shown(value)}")
            flat.append(value)
        else:
            stack.pop()
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    return array


def _requested(outputs: Any, model: Model, known: tuple[Tensor, ...]) -> tuple[str, ...]:
    if outputs is None or outputs == []:
        return ()
    if not isinstance(outputs, list):
        raise InvalidInput.at("outputs", f"expected a list, got {type_name(outputs)}")
    names = [tensor.name for tensor in known]
    wanted = []
    for index, entry in enumerate(outputs):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or (names and name not in names):
            got = shown(name if isinstance(entry, dict) else entry)
            raise InvalidInput.at(
                f"outputs[{index}].name", f"expected one of {', '.join(names) or 'the outputs'}, got {got}"
            )
        wanted.append(name)
    return tuple(wanted)


def encode(outputs: Outputs, call: Call, identity: Identity) -> bytes:
    """The inference response: the requested outputs, or all that were computed."""
    tensors = [_described(name, outputs[name]) for name in call.outputs or outputs if name in outputs]
    answer: dict[str, Any] = {
        "model_name": identity.model,
        "model_version": identity.version,
        "outputs": tensors,
    }
    if call.id is not None:
        answer["id"] = call.id
    try:
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise PredictionError("the model's answer cannot be written as JSON") from error


def _described(name: str, array: Array) -> dict[str, Any]:
    datatype = datatype_of(array.dtype)
    flat = array.reshape(-1).tolist()
    data = [as_text(value) for value in flat] if datatype == "BYTES" else flat
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": data}


def as_text(value: Any) -> str:
    """A BYTES element: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS).decode()


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
