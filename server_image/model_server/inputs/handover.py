"""What a step before the model returned, as the arrays that the model takes; `runtimes/steps.py` uses it. Pure.

Unlike a request it comes from code of the package: its shape, names and kinds of values are checked, and no value is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model_server.domain.features import Feature
from model_server.domain.model import InputAdapter
from model_server.domain.tensors import Array, Inputs
from model_server.errors import InvalidInput
from model_server.inputs.columns import Columns
from model_server.inputs.matrix import Matrix


class Misfit(Exception):
    """The model does not take what the step returned; says why, for the package's author."""


def handed_over(arrays: Mapping[str, Array], adapter: InputAdapter, rows: int) -> Inputs:
    """Arrays of `rows` rows as the adapter of the model would give them; a single one may have any name.

    Raises Misfit.
    """
    for name, array in arrays.items():
        if len(array) != rows:
            raise Misfit(f"{len(array)} rows in {name!r} for {rows}")
    if isinstance(adapter, Matrix):
        return {adapter.name: _matrix(arrays, adapter)}
    if isinstance(adapter, Columns):
        columns = _named(arrays, adapter.features)
        return {feature.name: _column(columns[feature.name], feature, rows) for feature in adapter.features}
    try:
        return adapter.from_tensors(arrays)
    except InvalidInput as error:
        raise Misfit(error.message) from None


def _matrix(arrays: Mapping[str, Array], adapter: Matrix) -> Array:
    array = next(iter(arrays.values()))
    if len(arrays) > 1 or (array.ndim == 1 and next(iter(arrays)) == adapter.features[0].name):
        columns = _named(arrays, adapter.features)
        named = [_numbers(columns[feature.name], feature.name) for feature in adapter.features]
        array = np.column_stack([column.reshape(len(column), -1) for column in named])
    elif array.ndim == 1 and len(adapter.features) == 1:
        array = array.reshape(-1, 1)
    array = _numbers(array, "the array")
    if array.shape[1:] != (len(adapter.features),):
        raise Misfit(f"an array of shape {list(array.shape)}, and the model takes [rows, {len(adapter.features)}]")
    return array.astype(adapter.dtype, copy=False)


def _numbers(array: Array, what: str) -> Array:
    if array.dtype.kind in "fiub":
        return array
    try:
        # None among numbers makes objects of them.
        return array.astype(np.float64)
    except (TypeError, ValueError):
        raise Misfit(f"{what} holds no numbers ({array.dtype}), and the model takes numbers") from None


def _named(arrays: Mapping[str, Array], features: Sequence[Feature]) -> Mapping[str, Array]:
    """The arrays by feature; one array of shape (rows, features) is the columns side by side."""
    names = [feature.name for feature in features]
    if len(arrays) == 1:
        (array,) = arrays.values()
        if len(names) == 1:
            return {names[0]: array}
        if array.ndim == 2 and array.shape[1] == len(names):
            return {name: array[:, place] for place, name in enumerate(names)}
    missing = [name for name in names if name not in arrays]
    strange = [name for name in arrays if name not in names]
    if missing or strange:
        fault = f"no {missing[0]!r}" if missing else f"{strange[0]!r}"
        raise Misfit(f"{fault}, and the model takes {', '.join(names[:20])}")
    return arrays


def _column(array: Array, feature: Feature, rows: int) -> Array:
    if array.size != rows:
        raise Misfit(f"{feature.name!r} of shape {list(array.shape)}, and the model takes one value a row of it")
    array = array.reshape(-1)
    if feature.dtype == "any":
        return array
    if feature.dtype == "string":
        return array.astype(object)
    try:
        return array.astype("datetime64[ns]" if feature.is_time else feature.dtype)
    except (TypeError, ValueError):
        raise Misfit(f"{feature.name!r} of {_kind(array)}, and the model takes {feature.dtype}") from None


def _kind(array: Array) -> Any:
    return "values that are not all of one kind" if array.dtype == object else array.dtype
