"""Columns of a table: Arrow's arrays, or lists of objects where the values of one are not all of one plain type.

What is read from text keeps its columns to the part, as a table of Parquet does; `cells.py` makes them. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        column = _numbers(columns[feature.name], feature)
        if column is None:
            return None
        found[feature.name] = column
    return found


def _numbers(column: Column, feature: Feature) -> Array | None:
    """A column of numbers for a feature of numbers; None for every other, and where a value is none or too special."""
    import pyarrow as arrow

    if not isinstance(column, arrow.Array):
        return None
    is_whole = arrow.types.is_integer(column.type)
    if not (is_whole or arrow.types.is_float64(column.type) or arrow.types.is_float32(column.type)):
        return None
    if not feature.is_numeric or (feature.is_integer and not is_whole):
        return None
    if column.null_count and (is_whole or not feature.nullable):
        return None
    array: Array = column.to_numpy(zero_copy_only=False)
    # Nulls are NaN by now; what was NaN or infinite before is no number that a row could have.
    is_finite = is_whole or int((~np.isfinite(array)).sum()) == column.null_count
    return array if is_finite else None


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
