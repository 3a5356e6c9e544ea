"""Columns of a table: Arrow's arrays, or lists of objects where the values of one are not all of one plain type.

What is read from text keeps its columns to the part, as a table of Parquet does; `cells.py` makes them. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from model_server.domain.features import Feature
from model_server.domain.tensors import Array

if TYPE_CHECKING:
    import pyarrow as arrow

#: `arrow.Array`, an array of NumPy (of the model's outputs), or a list.
Column: TypeAlias = Union["arrow.Array", Array, Sequence[Any]]
Columns: TypeAlias = Mapping[str, Column]


def arrays_of(columns: Columns, features: Sequence[Feature]) -> dict[str, Array] | None:
    """The columns of the features; None unless all mean what they mean as objects."""
    if not features or any(feature.name not in columns for feature in features):
        return None
    found: dict[str, Array] = {}
    for feature in features:
        column = _array_of(columns[feature.name], feature)
        if column is None:
            return None
        found[feature.name] = column
    return found


def _array_of(column: Column, feature: Feature) -> Array | None:
    import pyarrow as arrow

    if not isinstance(column, arrow.Array):
        return _array_in(values_in(column), feature)
    if feature.is_numeric or feature.dtype == "any":
        return _numbers(column, feature)
    kind = arrow.types.is_boolean if feature.dtype == "bool" else arrow.types.is_string
    if not kind(column.type) or (column.null_count and not feature.nullable):
        return None
    return column.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _array_in(column: Sequence[Any], feature: Feature) -> Array | None:
    """The array of a list of which all values are plain."""
    kinds = set(map(type, column))
    if NoneType in kinds and not feature.nullable:
        return None
    if feature.dtype == "string" or feature.is_time:
        return np.array(column, dtype=object) if kinds <= {str, NoneType} else None
    if feature.is_numeric and kinds <= ({int} if feature.is_integer else {int, float, NoneType}):
        array = np.array(column, dtype=np.float64 if NoneType in kinds else None)
        # Whole numbers of more than 64 bits are objects; nulls are NaN, and no other value may be.
        is_plain = array.dtype.kind in "fi" and np.isfinite(array).sum() == len(column) - column.count(None)
        return array if is_plain else None
    return np.array(column) if feature.dtype == "bool" and kinds == {bool} else None


def _numbers(column: arrow.Array, feature: Feature) -> Array | None:
    """A column of numbers; None for every other, and where a value is none or too special."""
    import pyarrow as arrow

    is_whole = arrow.types.is_integer(column.type)
    if not (is_whole or arrow.types.is_float64(column.type) or arrow.types.is_float32(column.type)):
        return None
    may_be_null = column.null_count < len(column) if feature.dtype == "any" else feature.nullable
    if (feature.is_integer and not is_whole) or (column.null_count and (is_whole or not may_be_null)):
        return None
    array: Array = column.to_numpy(zero_copy_only=False)
    # Nulls are NaN by now; what was NaN or infinite before is no number that a row could have.
    is_finite = is_whole or int((~np.isfinite(array)).sum()) == column.null_count
    return array if is_finite else None


def columns_of(table: arrow.Table) -> Columns:
    """The columns of a table of Parquet, of two with the same name the latter; text in one form."""
    return {name: _in_one_form(column) for name, column in zip(table.column_names, table.columns, strict=True)}


def _in_one_form(column: arrow.ChunkedArray) -> arrow.Array:
    import pyarrow as arrow

    if arrow.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if arrow.types.is_large_string(column.type) and column.nbytes < 2**31:
        column = column.cast(arrow.string())
    return column.combine_chunks()


def values_in(column: Column) -> Sequence[Any]:
    """The values as Python's."""
    if isinstance(column, np.ndarray):
        return column.tolist()  # type: ignore[no-any-return]
    if isinstance(column, Sequence):
        return column
    if not column.null_count and str(column.type) in ("double", "int64"):
        return column.to_numpy().tolist()  # type: ignore[no-any-return]  # many times faster
    return column.to_pylist()  # type: ignore[no-any-return]


def rows_in(columns: Columns) -> list[dict[str, Any]]:
    """The rows as objects."""
    names = tuple(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*map(values_in, columns.values()), strict=True)]


def joined(columns: Sequence[Columns]) -> Columns:
    """The rows of several tables with the same names."""
    import pyarrow as arrow

    whole: dict[str, Column] = {}
    for name in columns[0]:
        several = [one[name] for one in columns]
        if len({str(getattr(one, "type", "")) for one in several}) == 1 and isinstance(several[0], arrow.Array):
            whole[name] = arrow.concat_arrays(several)
        else:
            whole[name] = [value for one in several for value in values_in(one)]
    return whole
