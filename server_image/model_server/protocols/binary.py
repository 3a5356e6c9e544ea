"""The binary tensor extension of V2: a JSON head, then the tensors' bytes one after the other.

`Inference-Header-Content-Length` tells where the head ends. Numbers are little-endian in row-major
order; each BYTES element is preceded by its length in four bytes.
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model_server.domain.tensors import DTYPES, Array
from model_server.errors import InvalidInput, MalformedRequest

HEAD_LENGTH = b"inference-header-content-length"
MEDIA_TYPE = b"application/octet-stream"
_LENGTH = struct.Struct("<I")


def head_length(headers: Mapping[bytes, bytes], size: int) -> int | None:
    """Where the JSON head ends, None for a request that is all JSON. Raises MalformedRequest."""
    given = headers.get(HEAD_LENGTH)
    if given is None:
        return None
    if not given.isdigit() or len(given) > 18 or int(given) > size:
        text = given[:40].decode("latin-1")
        raise MalformedRequest(f"Inference-Header-Content-Length is {text!r}, and the body has {size} bytes")
    return int(given)


class Tail:
    """The bytes behind the head, handed out tensor by tensor."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._taken = 0

    def take(self, size: Any, datatype: str, count: int, where: str) -> Array:
        """The next tensor as a flat array. Raises InvalidInput when size, datatype and shape disagree."""
        if type(size) is not int or size < 0:
            raise InvalidInput.at(f"{where}.parameters.binary_data_size", "expected a number of bytes")
        left = len(self._content) - self._taken
        if size > left:
            raise InvalidInput.at(
                f"{where}.parameters.binary_data_size", f"{size} bytes are announced, and {left} are left"
            )
        chunk = self._content[self._taken : self._taken + size]
        self._taken += size
        if datatype == "BYTES":
            return _read_texts(chunk, count, where)
        dtype = DTYPES[datatype].newbyteorder("<")
        if size != count * dtype.itemsize:
            raise InvalidInput.at(
                f"{where}.parameters.binary_data_size",
                f"{count} {datatype} values need {count * dtype.itemsize} bytes, got {size}",
            )
        return np.frombuffer(chunk, dtype).astype(DTYPES[datatype], copy=False)

    def require_empty(self) -> None:
        """Raise MalformedRequest when bytes are left that no tensor announced."""
        left = len(self._content) - self._taken
        if left:
            raise MalformedRequest(f"{left} bytes are left behind the last tensor")


def _read_texts(chunk: memoryview, count: int, where: str) -> Array:
    values: list[Any] = []
    position = 0
    while position < len(chunk):
        if position + _LENGTH.size > len(chunk):
            raise InvalidInput.at(f"{where}.data", "the last BYTES element is cut short")
        (length,) = _LENGTH.unpack_from(chunk, position)
        position += _LENGTH.size
        if position + length > len(chunk):
            raise InvalidInput.at(f"{where}.data", "the last BYTES element is cut short")
        raw = bytes(chunk[position : position + length])
        position += length
        values.append(text_of(raw))
    if len(values) != count:
        raise InvalidInput.at(f"{where}.data", f"the shape needs {count} BYTES elements, got {len(values)}")
    array = np.empty(count, dtype=object)
    array[:] = values
    return array


def text_of(raw: bytes) -> str | bytes:
    """A BYTES element as text, where it is some."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def encoded(array: Array, datatype: str, texts: Sequence[str | bytes]) -> bytes:
    """A tensor's bytes; `texts` are its elements when it is BYTES."""
    if datatype != "BYTES":
        return np.ascontiguousarray(array, dtype=DTYPES[datatype].newbyteorder("<")).tobytes()
    parts: list[bytes] = []
    for text in texts:
        raw = text.encode() if isinstance(text, str) else text
        parts += (_LENGTH.pack(len(raw)), raw)
    return b"".join(parts)
