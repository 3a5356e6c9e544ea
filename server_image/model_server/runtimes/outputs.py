"""What code of a package returned, as named arrays with one value a row; for `python.py` and `steps.py`. Pure.

Authors return what their library gives: lists, arrays, tables, dicts of them. Each value has to reach the client as it
was meant, so an array is only made of values that it holds unchanged; all else stays a JSON value a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from model_server.domain.tensors import Array, Outputs

_NO_ROWS = (str, bytes, bytearray, set, frozenset, Mapping)
#: Beyond it a float is a neighbour of the whole number.
_EXACT = 2**53


def as_array(values: Any) -> Array:
    """What an estimator's method gave, as an array: dense where it is sparse, dates as text."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiubUO":
        return values
    if hasattr(values, "toarray"):
        values = values.toarray()
    array = np.asarray(values)
    return array if array.ndim == 0 or array.dtype.kind in "fiubUO" else _array(array, "")


def normalize_outputs(answer: Any, *, name: str = "predict", by: str = "predict") -> Outputs:
    """Arrays by output; `name` is that of a single one, `by` the function, for messages.

    Raises TypeError, for the log, when the answer is not one value a row.
    """
    if _is_table(answer):
        twice = answer.columns[answer.columns.duplicated()]
        if len(twice):
            raise TypeError(f"{by} returned a table with two columns {twice[0]!r}")
        answer = dict(answer.items())
    if isinstance(answer, Mapping):
        if not answer:
            raise TypeError(f"{by} returned an empty dict: return an output by name")
        return {str(key): _rows(values, f" for {str(key)!r}", by) for key, values in answer.items()}
    return {name: _rows(answer, "", by)}


def _is_table(answer: Any) -> bool:
    """A DataFrame; by its shape, as pandas need not be installed."""
    return hasattr(answer, "columns") and hasattr(answer, "items") and getattr(answer, "ndim", 0) == 2


def _rows(values: Any, where: str, by: str) -> Array:
    if isinstance(values, _NO_ROWS) or not isinstance(values, Iterable):
        kind = type(values).__name__
        raise TypeError(f"{by} returned a {kind}{where}: return one value a row, as a list or an array")
    if isinstance(values, np.ma.MaskedArray):
        return _objects(values.tolist())
    if isinstance(values, np.ndarray):
        return _array(values, where, by)
    if hasattr(values, "to_numpy"):  # a column of pandas
        return _array(values.to_numpy(), where, by)
    return _list(list(values))


def _array(values: Array, where: str, by: str = "predict") -> Array:
    if values.ndim == 0:
        raise TypeError(f"{by} returned an array without rows{where}: return one value a row")
    kind = values.dtype.kind
    if kind == "c":
        raise TypeError(f"{by} returned {values.dtype}{where}, which JSON has no word for")
    if kind == "M":
        times: Array = np.datetime_as_string(values).astype(object)
        times[np.isnat(values)] = None
        return times
    if kind == "f" and values.dtype.itemsize > 8:
        return np.asarray(values, dtype=np.float64)
    if kind in "fiubUO":
        return values
    return _list(list(values))


def _list(rows: list[Any]) -> Array:
    """Rows of equal shape as an array, where it holds each value as it is; rows of anything else as objects."""
    try:
        array = np.asarray(rows)
    except (ValueError, OverflowError):
        return _objects(rows)
    if array.ndim == 0 or array.dtype.kind not in "fiubU":
        return _objects(rows)
    if array.dtype.kind == "U":
        texts = np.array(rows, dtype=object)
        return texts if all(isinstance(value, str) for value in texts.flat) else _objects(rows)
    return array if all(_is_held(value, array.dtype.kind) for value in _leaves(rows)) else _objects(rows)


def _is_held(value: Any, kind: str) -> bool:
    """Whether an array of this kind shows the value as what it is."""
    if isinstance(value, bool | np.bool_):
        return kind == "b"
    return kind != "f" or isinstance(value, float | np.floating) or abs(int(value)) <= _EXACT


def _leaves(rows: Iterable[Any]) -> Iterator[Any]:
    for row in rows:
        if isinstance(row, list | tuple):
            yield from _leaves(row)
        elif not isinstance(row, np.ndarray):
            yield row


def _objects(rows: list[Any]) -> Array:
    array = np.empty(len(rows), dtype=object)
    for place, row in enumerate(rows):  # at once, rows that are arrays would be taken apart
        array[place] = row
    return array
