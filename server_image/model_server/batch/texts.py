"""Columns as the text of their rows, for `output.py`: JSON lines and CSV, the same bytes as row by row. Pure."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from model_server.batch.columns import Column, Columns, values_in
from model_server.domain.tensors import Array, as_json

if TYPE_CHECKING:
    import pyarrow as arrow

#: JSON's own words for what it escapes, the first first; what else it escapes, and all of that.
_ESCAPES = {b"\\": b"\\\\", b'"': b'\\"', b"\n": b"\\n", b"\r": b"\\r", b"\t": b"\\t", b"\b": b"\\b", b"\f": b"\\f"}
_ESCAPED = bytes(code for code in range(0x20) if code not in b"\n\r\t\b\f")
_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
#: Text that is quoted in CSV, or may be, by the version of Python.
_QUOTED = b'",\r\n'
#: From the one to below the other, and of 0, `repr` and orjson write the same digits in the same way.
_LEAST, _MOST = 1e-4, 1e16


def _as_json(value: Any) -> Any:
    if isinstance(value, Decimal) and value.is_finite():
        return orjson.Fragment(format(value, "f"))
    try:
        return as_json(value)
    except TypeError:
        return str(value)


def to_json(value: Any, *, default: Callable[[Any], Any] = _as_json, end: int = 0) -> bytes:
    """A value as JSON, with `OPT_APPEND_NEWLINE` as a line; what JSON has no word for by default as text."""
    try:
        return orjson.dumps(value, default=default, option=_JSON | end)
    except TypeError:  # orjson writes whole numbers of 64 bits, and JSON has all
        return orjson.dumps(_with_all_digits(value), default=default, option=_JSON | end)


def _with_all_digits(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_all_digits(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_with_all_digits(one) for one in value]
    is_wide = type(value) is int and not -(2**63) <= value < 2**64
    return orjson.Fragment(str(value)) if is_wide else value


def to_cell(value: Any) -> Any:
    """A value as `csv.writer` takes it: what is no text or number is JSON."""
    return to_json(value).decode() if isinstance(value, list | dict | bool) else value


def json_lines(columns: Columns) -> memoryview:
    """An object a line; there are columns, and rows."""
    row = _Row()
    for place, (name, column) in enumerate(columns.items()):
        row.add_text((b"," if place else b"{") + to_json(name) + b":")
        numbers = _numbers(column)
        strings = _strings(column, _ESCAPED)
        if numbers is not None:
            row.add_numbers(numbers)
        elif strings is not None and not strings.null_count:
            row.add_text(b'"')
            row.add_values(_escaped(strings))
            row.add_text(b'"')
        else:
            row.add_values([to_json(value) for value in values_in(column)])
    row.add_text(b"}\n")
    return row.joined()


def separated_lines(columns: Sequence[Column]) -> memoryview:
    """Lines of CSV, of two columns or more; there are rows."""
    row = _Row()
    for place, column in enumerate(columns):
        if place:
            row.add_text(b",")
        numbers = _numbers(column)
        strings = _strings(column, _QUOTED)
        if numbers is not None and _has_short_digits(numbers):
            row.add_numbers(numbers)
        elif strings is not None:
            row.add_values(strings.fill_null(b"") if strings.null_count else strings)
        else:
            row.add_values(_written(values_in(column)))
    row.add_text(b"\n")
    return row.joined()


class _Row:
    """What each row consists of: text that is the same in all, and values. Text follows every value."""

    def __init__(self) -> None:
        self._parts: list[Any] = []
        self._numbers: Array | None = None

    def add_text(self, text: bytes) -> None:
        """Add the same to each row."""
        if self._numbers is not None:
            self._parts.append(_texts_of(self._numbers, text[0]))
            self._numbers, text = None, text[1:]
        if self._parts and isinstance(self._parts[-1], bytes):
            self._parts[-1] += text
        elif text:
            self._parts.append(text)

    def add_values(self, values: arrow.Array | Sequence[bytes]) -> None:
        """Add a text to each row."""
        import pyarrow as arrow

        self._parts.append(arrow.array(values, arrow.binary()) if isinstance(values, list) else values)

    def add_numbers(self, numbers: Array) -> None:
        """Add a number to each row."""
        self._numbers = numbers

    def joined(self) -> memoryview:
        """All rows."""
        import pyarrow as arrow
        from pyarrow import compute

        # Offsets of 64 bits, since together the columns may have more than 2 GiB.
        kind = arrow.large_binary()
        parts = [arrow.scalar(part, kind) if isinstance(part, bytes) else part.cast(kind) for part in self._parts]
        rows = compute.binary_join_element_wise(*parts, arrow.scalar(b"", kind))
        _, offsets, content = rows.buffers()
        return memoryview(content)[: np.frombuffer(offsets, np.int64)[len(rows)]]


def _texts_of(numbers: Array, end: int) -> arrow.Array:
    """Each number as JSON, and a byte behind it."""
    import pyarrow as arrow

    content = np.frombuffer(orjson.dumps(np.ascontiguousarray(numbers), option=_JSON), np.uint8, offset=1).copy()
    content[-1] = ord(",")
    ends = np.flatnonzero(content == ord(","))
    content[ends] = end
    offsets = np.zeros(len(ends) + 1, np.int32)
    offsets[1:] = ends + 1
    return arrow.Array.from_buffers(
        arrow.binary(), len(ends), [None, arrow.py_buffer(offsets), arrow.py_buffer(content)]
    )


def _numbers(column: Column) -> Array | None:
    """Numbers or truth values, NaN for null; None where a column has others."""
    import pyarrow as arrow

    if isinstance(column, arrow.Array):
        is_fraction = arrow.types.is_float64(column.type) or arrow.types.is_float32(column.type)
        is_plain = arrow.types.is_integer(column.type) or arrow.types.is_boolean(column.type)
        if not is_fraction and (column.null_count or not is_plain):
            return None
        column = column.to_numpy(zero_copy_only=False)
    if not isinstance(column, np.ndarray) or column.ndim != 1 or column.dtype.kind not in "fiub":
        return None
    # The digits are those of Python's number, which has 64 bits.
    return column.astype(np.float64, copy=False) if column.dtype.kind == "f" else column


def _strings(column: Column, special: bytes) -> arrow.Array | None:
    """Text as bytes; None where a column has other values, or text with a special character."""
    import pyarrow as arrow

    if not isinstance(column, arrow.Array) or not arrow.types.is_string(column.type):
        return None
    content = bytes(_content(column))
    return None if len(content.translate(None, special)) < len(content) else column.view(arrow.binary())


def _content(column: arrow.Array) -> memoryview:
    """All text of a column."""
    _, offsets, content = column.buffers()
    first, last = np.frombuffer(offsets, np.int32)[[column.offset, column.offset + len(column)]]
    return memoryview(content or b"")[first:last]


def _escaped(strings: arrow.Array) -> arrow.Array:
    """Text as it stands between the quotes of JSON."""
    from pyarrow import compute

    content = bytes(_content(strings))
    for special, escape in _ESCAPES.items():
        if special in content:
            strings = compute.replace_substring(strings, special, escape)
    return strings


def _has_short_digits(numbers: Array) -> bool:
    if numbers.dtype.kind != "f":
        return True
    sizes = np.abs(numbers)
    return bool((((sizes >= _LEAST) & (sizes < _MOST)) | (sizes == 0)).all())


def _written(values: Sequence[Any]) -> list[bytes]:
    """Each value as `csv.writer` writes it beside others."""
    lines: list[str] = []
    writer = csv.writer(SimpleNamespace(write=lines.append), lineterminator="\n")
    writer.writerows((to_cell(value), "") for value in values)
    return [line.removesuffix(",\n").encode() for line in lines]
