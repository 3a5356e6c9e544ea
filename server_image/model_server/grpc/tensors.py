"""The codec of `ModelInfer`: tensors of messages to arrays and back, as typed contents or raw bytes, whichever came."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_server.domain.model import InferenceRequest, LoadedModel
from model_server.domain.tensors import DTYPES, Array, Outputs, datatype_of
from model_server.errors import InvalidInput
from model_server.grpc.messages import message
from model_server.inputs.adapter import preview
from model_server.protocols.binary import Tail, encoded, text_of
from model_server.protocols.checks import limit_rows
from model_server.protocols.v2 import MOST_DIMENSIONS, as_text, want_outputs, wanted_names

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


@dataclass(slots=True)
class MessagePayload:
    """A ModelInferRequest as it came."""

    message: Any
    #: Requests are compared by their bodies over HTTP only.
    body = b""

    @property
    def size(self) -> int:
        """How many bytes the message has."""
        return int(self.message.ByteSize())


class Messages:
    """The codec of ModelInferRequest and ModelInferResponse."""

    def decode(self, payload: MessagePayload, loaded: LoadedModel, *, max_rows: int) -> InferenceRequest:
        """Arrays of the tensors. Raises RequestErrors that name the tensor."""
        asked = payload.message
        request = InferenceRequest(inputs=loaded.adapter.from_tensors(read_tensors(asked, max_rows)), id=asked.id)
        # Outputs come back in the form in which the inputs came.
        request.all_binary = bool(asked.raw_input_contents)
        if asked.outputs:
            want_outputs(request, [output.name for output in asked.outputs], loaded)
        return request

    def encode(self, outputs: Outputs, request: InferenceRequest, loaded: LoadedModel) -> Any:
        """The response with the wanted outputs."""
        identity = loaded.identity
        response = message("ModelInferResponse")(
            model_name=identity.model, model_version=identity.version, id=request.id
        )
        names = wanted_names(outputs, request)
        # All in one form: the raw contents are counted by the outputs' places.
        raw = request.all_binary or any(datatype_of(outputs[name].dtype) not in _CONTENTS for name in names)
        for name in names:
            _add(response, name, outputs[name], raw=raw)
        return response


def read_tensors(request: Any, max_rows: int) -> dict[str, Array]:
    """The arrays of a ModelInferRequest. Raises RequestErrors that name the tensor."""
    raw = request.raw_input_contents
    if not request.inputs:
        raise InvalidInput.at("inputs", "is missing")
    if raw and len(raw) != len(request.inputs):
        raise InvalidInput.at(
            "raw_input_contents", f"expected one for each of {len(request.inputs)} inputs, got {len(raw)}"
        )
    tensors: dict[str, Array] = {}
    for index, tensor in enumerate(request.inputs):
        where = f"inputs[{index}]"
        if tensor.datatype not in DTYPES:
            raise InvalidInput.at(f"{where}.datatype", f"expected one of {', '.join(DTYPES)}, got {tensor.datatype!r}")
        shape = list(tensor.shape)
        if not 0 < len(shape) <= MOST_DIMENSIONS or any(not 0 <= size < 2**31 for size in shape):
            raise InvalidInput.at(
                f"{where}.shape", f"expected at most {MOST_DIMENSIONS} sizes, rows first, got {preview(shape)}"
            )
        count = math.prod(shape)
        if raw and tensor.contents.ListFields():
            raise InvalidInput.at(f"{where}.contents", "expected none beside raw_input_contents")
        if raw:
            tail = Tail(memoryview(raw[index]))
            array = tail.take(len(raw[index]), tensor.datatype, count, where)
        else:
            array = _typed(tensor, where)
        if array.size != count:
            raise InvalidInput.at(f"{where}.contents", f"shape {shape} needs {count} values, got {array.size}")
        if tensor.name in tensors:
            raise InvalidInput.at(f"{where}.name", f"{tensor.name!r} is given twice")
        tensors[tensor.name] = array.reshape(shape)
    limit_rows(len(next(iter(tensors.values()))), max_rows, "inputs[0].shape")
    return tensors


def _typed(tensor: Any, where: str) -> Array:
    if tensor.datatype not in _CONTENTS:
        raise InvalidInput.at(f"{where}.datatype", f"{tensor.datatype} has no typed contents: send raw_input_contents")
    values = list(getattr(tensor.contents, _CONTENTS[tensor.datatype]))
    if tensor.datatype == "BYTES":
        array = np.empty(len(values), dtype=object)
        array[:] = [text_of(value) for value in values]
        return array
    try:
        return np.array(values, dtype=DTYPES[tensor.datatype])
    except OverflowError:
        raise InvalidInput.at(f"{where}.contents", f"expected values that fit {tensor.datatype}") from None


def _add(response: Any, name: str, array: Array, *, raw: bool) -> None:
    datatype = datatype_of(array.dtype)
    flat = array.reshape(-1)
    values = [as_text(value) for value in flat.tolist()] if datatype == "BYTES" else []
    tensor = response.outputs.add(name=name, datatype=datatype, shape=array.shape)
    if raw:
        response.raw_output_contents.append(encoded(array, datatype, values))
    elif datatype == "BYTES":
        tensor.contents.bytes_contents.extend(value.encode() for value in values)
    else:
        getattr(tensor.contents, _CONTENTS[datatype]).extend(flat.tolist())
