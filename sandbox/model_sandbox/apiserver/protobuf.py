"""Request bodies in Kubernetes' protobuf, read by the same schemas as JSON.

kubectl create and Helm send them and do not fall back to JSON. The field numbers stand in
`data/kubernetes.types`. Answers are always JSON, which all clients accept.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from model_sandbox.apiserver.errors import Obj
from model_sandbox.apiserver.schema import Node, Shape

MAGIC = b"k8s\x00"
_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}  # size by wire type
_MAX_DEPTH = 64


class ProtobufError(ValueError):
    """Bytes that are no message of the expected kind."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ProtobufError("unexpected EOF")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7


def _fields(data: int | bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: number, and varint or bytes."""
    at, data = 0, _bytes(data)
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        size = _FIXED.get(wire, 0)
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif not size:
            raise ProtobufError(f"proto: illegal wireType {wire}")
        if number == 0 or at + size > len(data):
            raise ProtobufError("unexpected EOF")
        yield number, data[at : at + size]
        at += size


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ProtobufError("proto: wrong wireType")
    return value


def _text(value: int | bytes) -> str:
    return _bytes(value).decode()


def _signed(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ProtobufError("proto: wrong wireType")
    return value - (1 << 64) if value >= 1 << 63 else value


def decode_body(node: Node, data: bytes) -> Obj:
    """The object of a request's body. Raises ValueError."""
    if not data.startswith(MAGIC):
        raise ProtobufError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    unknown = dict(_fields(data[len(MAGIC) :]))
    names = dict(_fields(unknown.get(1, b"")))
    head = {"apiVersion": _text(names.get(1, b"")), "kind": _text(names.get(2, b""))}
    return {**head, **decode(node, unknown.get(2, b""))}


def decode(node: Node, data: int | bytes, depth: int = 0) -> Obj:
    """A message as the JSON object it stands for. Raises ValueError."""
    if depth > _MAX_DEPTH:
        raise ProtobufError("exceeded max depth")
    result: Obj = {}
    embedded = {sub.number: sub for sub in node.spread if sub.number}
    inherited = {name for sub in embedded.values() for name in sub.fields}
    by_number = {sub.number: (name, sub) for name, sub in node.fields.items() if sub.number and name not in inherited}
    for number, value in _fields(data):
        if number in embedded:
            result.update(decode(embedded[number], value, depth + 1))
        elif number in by_number:
            name, sub = by_number[number]
            if sub.shape is Shape.LIST:
                result.setdefault(name, []).append(_value(sub.item, value, depth))
            elif sub.shape is Shape.MAP:
                entry = dict(_fields(value))
                result.setdefault(name, {})[_text(entry.get(1, b""))] = _value(sub.item, entry.get(2, b""), depth)
            else:
                result[name] = _value(sub, value, depth)
    return result


def _value(node: Node, value: int | bytes, depth: int) -> Any:
    shape = node.shape
    if shape is Shape.OBJECT:
        return decode(node, value, depth + 1)
    if shape in _PLAIN:
        return _PLAIN[shape](value)
    inner = dict(_fields(value))
    if shape is Shape.QUANTITY:
        return _text(inner.get(1, b"0"))
    if shape is Shape.INT_OR_STRING:
        return _text(inner.get(3, b"")) if inner.get(1) else _signed(inner.get(2, 0))
    if shape is Shape.TIME:
        return _time(node, _signed(inner.get(1, 0)), _signed(inner.get(2, 0)))
    return json.loads(_text(inner.get(1, b"")) or "null")


_PLAIN: dict[Shape, Callable[[int | bytes], Any]] = {
    Shape.BOOLEAN: bool,
    Shape.INTEGER: _signed,
    Shape.STRING: _text,
    Shape.BYTES: lambda value: base64.b64encode(_bytes(value)).decode(),
}


def _time(node: Node, seconds: int, nanos: int) -> str | None:
    if (seconds == 0 and nanos == 0) or seconds <= -62135596800:
        return None
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=nanos // 1000)
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if node.go_type == "MicroTime" else "%Y-%m-%dT%H:%M:%SZ")
