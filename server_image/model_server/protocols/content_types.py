"""MLServer's content types of V2 inputs: `parameters.content_type` says what the values of a BYTES tensor are.

https://mlserver.readthedocs.io/en/stable/user-guide/content-type.html
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from model_server.domain.features import parse_time
from model_server.domain.tensors import Array
from model_server.errors import InvalidInput, MalformedRequest
from model_server.inputs.adapter import preview
from model_server.inputs.text import named_twice
from model_server.protocols.binary import text_of
from model_server.protocols.checks import type_name
from model_server.protocols.payload import parse_json

#: What says no more than the datatype and the shape say already.
_PLAIN = frozenset({"np", "pd", "str", "raw"})
_TABLE = "pd_json"
_KNOWN = ("np", "pd", "str", "base64", "datetime", _TABLE)


def with_content_type(array: Array, parameters: Any, where: str) -> Array:
    """A BYTES tensor's values as what their content type says: bytes, times, or text. Raises InvalidInput."""
    kind = parameters.get("content_type") if isinstance(parameters, Mapping) else None
    if kind is None or (isinstance(kind, str) and kind in _PLAIN):
        return array
    if kind == "base64":
        return _each(array, _from_base64, where, "base64")
    if kind == "datetime":
        times = _each(array, _as_time, where, "a date and time as 2024-03-01T05:00:00")
        return times.astype("datetime64[ns]")
    raise InvalidInput.at(
        f"{where}.parameters.content_type", f"expected one of {', '.join(_KNOWN)}, got {preview(kind)}"
    )


def _each(array: Array, read: Any, where: str, expected: str) -> Array:
    found = np.empty(array.size, dtype=object)
    for place, value in enumerate(array.reshape(-1).tolist()):
        one = read(value)
        if one is None:
            raise InvalidInput.at(f"{where}.data[{place}]", f"expected {expected}, got {preview(value)}")
        found[place] = one
    return found.reshape(array.shape)


def _as_time(value: str | bytes) -> datetime | None:
    return parse_time(value, "datetime") if isinstance(value, str) else None


def _from_base64(value: str | bytes) -> str | bytes | None:
    try:
        return text_of(b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        return None


def table_rows(document: Mapping[str, Any]) -> list[Any]:
    """The rows of a request whose only input is a pandas table as JSON (`pd_json`), [] for any other request.

    Raises InvalidInput for a document that is no table.
    """
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        return []
    (entry,) = inputs
    parameters, data = entry.get("parameters"), entry.get("data")
    if not isinstance(parameters, dict) or parameters.get("content_type") != _TABLE:
        return []
    if not isinstance(data, list) or len(data) != 1 or not isinstance(data[0], str):
        raise InvalidInput.at("inputs[0].data", "expected one text with a table in it")
    try:
        return _rows_of(parse_json(data[0].encode()))
    except MalformedRequest as error:
        raise InvalidInput.at("inputs[0].data[0]", error.message) from None


def _rows_of(table: Any) -> list[Any]:
    """Rows of a table in pandas' forms `records`, `split` and `columns`, which is its default."""
    where = "inputs[0].data[0]"
    if isinstance(table, list) and table:
        return table
    if not isinstance(table, dict) or not table:
        raise InvalidInput.at(where, f"expected a table with rows, got {type_name(table)}")
    if table.keys() >= {"columns", "data"}:
        names, rows = table["columns"], table["data"]
        if not isinstance(names, list) or not isinstance(rows, list) or not rows:
            raise InvalidInput.at(where, "expected lists of columns and of rows")
        if twice := named_twice([str(name) for name in names]):
            raise InvalidInput.at(where, f"has two columns {twice!r}")
        return [dict(zip(names, row, strict=True)) if _fits(row, names) else row for row in rows]
    columns = [list(values.values()) if isinstance(values, dict) else values for values in table.values()]
    if not all(isinstance(values, list) for values in columns) or len({len(values) for values in columns}) != 1:
        raise InvalidInput.at(where, "expected columns of one length")
    return [dict(zip(table, row, strict=True)) for row in zip(*columns, strict=True)]


def _fits(row: Any, names: list[Any]) -> bool:
    return isinstance(row, list) and len(row) == len(names) and all(isinstance(name, str) for name in names)
