"""Request bodies in Kubernetes' protobuf, read by the same schemas as JSON.

kubectl create and Helm send them and do not fall back to JSON. The field numbers stand in
`data/kubernetes.types`. Answers are always JSON, which all clients accept.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from model_sandbox.apiserver.errors import Obj
from model_sandbox.apiserver.schema import Node, Shape

MAGIC = b"k8s\x00"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
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


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: number, and varint or bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ProtobufError(f"proto: illegal wireType {wire}")
        if number == 0 or at + size > len(data):
            raise ProtobufError("unexpected EOF")
        yield number, data[at : at + size]
        at += size


def envelope(data: bytes) -> tuple[str, str, bytes]:
    """apiVersion, kind and the message of a body. Raises ProtobufError."""
    if not data.startswith(MAGIC):
        raise ProtobufError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    api_version = kind = ""
    raw = b""
    for number, value in _fields(data[len(MAGIC) :]):
        if number == 1 and isinstance(value, bytes):
            names = {inner: text.decode() for inner, text in _fields(value) if isinstance(text, bytes)}
            api_version, kind = names.get(1, ""), names.get(2, "")
        elif number == 2 and isinstance(value, bytes):
            raw = value
    return api_version, kind, raw


def decode(node: Node, data: bytes, depth: int = 0) -> Obj:
    """A message as the JSON object it stands for. Raises ProtobufError."""
    if depth > _MAX_DEPTH:
        raise ProtobufError("exceeded max depth")
    result: Obj = {}
    by_number = {sub.number: (name, sub) for name, sub in node.fields.items() if sub.number}
    embedded = {sub.number: sub for sub in node.spread if sub.number}
    inherited = {name for sub in node.spread if sub.number for name in sub.fields}
    by_number = {number: pair for number, pair in by_number.items() if pair[0] not in inherited}
    for number, value in _fields(data):
        if number in embedded and isinstance(value, bytes):
            result.update(decode(embedded[number], value, depth + 1))
        elif number in by_number:
            name, sub = by_number[number]
            _add(result, name, sub, value, depth)
    return result


def _add(result: Obj, name: str, node: Node, value: int | bytes, depth: int) -> None:
    if node.shape is Shape.LIST and node.items is not None:
        result.setdefault(name, []).append(_value(node.items, value, depth))
    elif node.shape is Shape.MAP and node.items is not None:
        entry: dict[int, int | bytes] = dict(_fields(_bytes(value)))
        key = _bytes(entry.get(1, b"")).decode()
        result.setdefault(name, {})[key] = _value(node.items, entry.get(2, b""), depth)
    else:
        result[name] = _value(node, value, depth)


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ProtobufError("proto: wrong wireType")
    return value


def _signed(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ProtobufError("proto: wrong wireType")
    return value - (1 << 64) if value >= 1 << 63 else value


def _value(node: Node, value: int | bytes, depth: int) -> Any:
    shape = node.shape
    if shape is Shape.BOOLEAN:
        return bool(value)
    if shape is Shape.INTEGER:
        return _signed(value)
    raw = _bytes(value)
    if shape is Shape.STRING:
        return raw.decode()
    if shape is Shape.BYTES:
        return base64.b64encode(raw).decode()
    if shape is Shape.OBJECT:
        return decode(node, raw, depth + 1)
    if shape is Shape.MAP and node.items is not None:
        result: Obj = {}
        _add(result, "", node, raw, depth)
        return result[""]
    inner: dict[int, int | bytes] = dict(_fields(raw))
    if shape is Shape.QUANTITY:
        return _bytes(inner.get(1, b"0")).decode()
    if shape is Shape.INT_OR_STRING:
        return _bytes(inner.get(3, b"")).decode() if inner.get(1) else _signed(inner.get(2, 0))
    if shape is Shape.TIME:
        return _time(node, _signed(inner.get(1, 0)), _signed(inner.get(2, 0)))
    text = _bytes(inner.get(1, b"null"))
    return json.loads(text or b"null")


def _time(node: Node, seconds: int, nanos: int) -> str | None:
    if (seconds == 0 and nanos == 0) or seconds <= -62135596800:
        return None
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=nanos // 1000)
    form = "%Y-%m-%dT%H:%M:%S.%fZ" if node.go_type == "MicroTime" else "%Y-%m-%dT%H:%M:%SZ"
    return when.strftime(form)
