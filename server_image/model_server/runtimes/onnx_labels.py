"""Which class each column of a classifier's probabilities is of, and what gives them, read from the ONNX file. Pure.

`onnx.py` uses it, as ONNX Runtime does not tell: the labels are attributes of the classifier's node
(`classlabels_strings`, `_ints`, `_int64s`), or a constant that converters call `classes`. The file is a protocol
buffer, of which this reads the few fields that are needed, by their numbers in onnx.proto; without the package `onnx`,
which serving does not need.
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

Labels: TypeAlias = tuple[str, ...] | tuple[int, ...]
# A field's number, and its content: a memoryview of bytes, or an integer.
_Field: TypeAlias = tuple[int, Any]

_GRAPH = 7  # of ModelProto
_NODE, _INITIALIZER = 1, 5  # of GraphProto
_NODE_INPUT, _NODE_OUTPUT, _NODE_TYPE, _ATTRIBUTE = 1, 2, 4, 5  # of NodeProto
_ATTRIBUTE_NAME, _INTS, _STRINGS = 1, 8, 9  # of AttributeProto
_TENSOR_TYPE, _TENSOR_INT32, _TENSOR_STRINGS, _TENSOR_INT64, _TENSOR_NAME, _TENSOR_RAW = 2, 5, 6, 7, 8, 9  # TensorProto
_RAW_TYPES = {6: "<i4", 7: "<i8"}  # TensorProto.DataType
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: Operators that change no value.
_PASSING = {"Identity", "Cast", "Reshape", "Squeeze", "Flatten"}


def operator_of(model: memoryview, output: str) -> str:
    """The type of the operator that computes an output, such as Softmax; "" where none of the graph does."""
    makers: dict[str, tuple[str, str]] = {}
    for number, graph in _fields(model):
        for kind, content in _fields(graph) if number == _GRAPH else ():
            if kind == _NODE:
                fields = list(_fields(content))
                for name in (bytes(value).decode() for field, value in fields if field == _NODE_OUTPUT):
                    makers[name] = _text(fields, _NODE_TYPE), _text(fields, _NODE_INPUT)
    # Each is passed once: a graph of valid order ends, any other ends here.
    while output in makers:
        operator, output = makers.pop(output)
        if operator not in _PASSING:
            return operator
    return ""


def labels_in(model: memoryview, output: str, count: int, *, text: bool) -> Labels:
    """The labels of a classifier with `count` classes, of text or of integers; () where the graph is not clear.

    `output` is the name of the label: where an ArgMax gives it, labels are the columns' numbers.
    """
    found: set[Labels] = set()
    for number, graph in _fields(model):
        if number != _GRAPH:
            continue
        for kind, content in _fields(graph):
            if kind == _NODE:
                found.update(_of_node(content, output, count))
            elif kind == _INITIALIZER:
                found.update(_of_constant(content))
    fitting = [labels for labels in found if len(labels) == count and isinstance(labels[0], str) is text]
    return fitting[0] if len(fitting) == 1 else ()


def _of_node(node: memoryview, output: str, count: int) -> Iterator[Labels]:
    fields = list(_fields(node))
    if _text(fields, _NODE_TYPE) == "ArgMax" and _text(fields, _NODE_OUTPUT) == output:
        yield tuple(range(count))
    for number, attribute in fields:
        if number == _ATTRIBUTE:
            fields = list(_fields(attribute))
            if _text(fields, _ATTRIBUTE_NAME).startswith("classlabels_"):
                yield from _labels(fields, _STRINGS, _INTS)


def _of_constant(tensor: memoryview) -> Iterator[Labels]:
    fields = list(_fields(tensor))
    strings, name = any(number == _TENSOR_STRINGS for number, _ in fields), _text(fields, _TENSOR_NAME)
    if strings or name.startswith("classes"):
        for number, raw in fields:
            if number == _TENSOR_RAW and (kind := _RAW_TYPES.get(dict(fields).get(_TENSOR_TYPE, 0))):
                yield tuple(np.frombuffer(raw, dtype=kind).tolist())
        for ints in (_TENSOR_INT32, _TENSOR_INT64):
            yield from _labels(fields, _TENSOR_STRINGS, ints)


def _labels(fields: list[_Field], strings: int, ints: int) -> Iterator[Labels]:
    texts = tuple(bytes(value).decode() for number, value in fields if number == strings)
    numbers: list[int] = []
    for number, value in fields:
        if number == ints:
            numbers += [value] if isinstance(value, int) else _packed(value)
    if texts:
        yield texts
    if numbers:
        yield tuple(number - 2**64 if number >= 2**63 else number for number in numbers)


def _text(fields: list[_Field], field_number: int) -> str:
    return next((bytes(value).decode() for number, value in fields if number == field_number), "")


def _fields(message: memoryview) -> Iterator[_Field]:
    """The fields of a message; floats are passed over. Raises ValueError for what is no protocol buffer."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield tag >> 3, value
        elif kind == _BYTES:
            size, place = _varint(message, place)
            yield tag >> 3, message[place : place + size]
            place += size
        elif kind in (_FIXED64, _FIXED32):
            place += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} at {place}")


def _packed(content: memoryview) -> list[int]:
    values, place = [], 0
    while place < len(content):
        value, place = _varint(content, place)
        values.append(value)
    return values


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
