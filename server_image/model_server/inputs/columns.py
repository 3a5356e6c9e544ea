"""One array for each feature: tables with text or booleans, and models with an input for each column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType, NoneType
from typing import Any

import numpy as np

from model_server.domain.features import Feature, Scalar, parse_time
from model_server.domain.tensors import Array, Inputs, Tensor, datatype_of, values_of
from model_server.errors import InvalidInput, Problem
from model_server.inputs.adapter import MOST_PROBLEMS, check_value, checked_rows, dummy_row, example_row
from model_server.inputs.rules import Rules


class Columns:
    """Arrays of shape (rows,), text as an object array of str."""

    def __init__(self, features: Sequence[Feature], samples: Mapping[str, Scalar] = MappingProxyType({})) -> None:
        self.features = tuple(features)
        self._samples = samples
        row = dummy_row(features, samples)
        self.tensors = tuple(
            Tensor(feature.name, datatype_of(_column(feature, [value]).dtype), (-1, 1))
            for feature, value in zip(features, row, strict=True)
        )

    def from_instances(self, instances: Sequence[Any], *, numbers_only: bool) -> Inputs:
        return self._arrays(checked_rows(self.features, instances))

    def from_tensors(self, tensors: Mapping[str, Array]) -> Inputs:
        names = [feature.name for feature in self.features]
        tensors = _taken_apart(tensors, names)
        problems = [
            Problem(f"inputs[{name}]", f"is not an input of this model; known are {', '.join(names[:20])}")
            for name in tensors
            if name not in names
        ]
        problems += [
            Problem(f"inputs[{feature.name}]", "is missing", feature.name, "missing")
            for feature in self.features
            if feature.name not in tensors and not feature.is_optional
        ]
        if problems:
            raise InvalidInput(problems)
        rows = len(next(iter(tensors.values())))
        return {feature.name: self._array(feature, tensors.get(feature.name), rows) for feature in self.features}

    def example(self) -> Inputs | None:
        row = example_row(self.features)
        return None if row is None else self._arrays([row])

    def dummy_rows(self) -> Inputs | None:
        return self._arrays([dummy_row(self.features, self._samples)])

    def other_dummy_rows(self) -> Sequence[Inputs]:
        rows = [
            dummy_row(self.features, self._samples, number=number, text=text)
            for text in (None, "text")
            for number in (1, 0)
        ]
        return [self._arrays([row]) for row in rows]

    def sample_row(self) -> list[Any] | None:
        return example_row(self.features) or dummy_row(self.features, self._samples)

    def _arrays(self, rows: Sequence[Sequence[Any]]) -> Inputs:
        columns = zip(*rows, strict=True)
        return {feature.name: _column(feature, column) for feature, column in zip(self.features, columns, strict=True)}

    def _array(self, feature: Feature, array: Array | None, rows: int) -> Array:
        if array is None:
            return _column(feature, [None] * rows)
        where = f"inputs[{feature.name}]"
        if array.size != rows or len(array) != rows:
            raise InvalidInput.at(f"{where}.shape", f"expected [{rows}] or [{rows}, 1], got {list(array.shape)}")
        plain = self._plain(feature, array.reshape(-1))
        return _column(feature, self._values(feature, array, where)) if plain is None else plain

    def _plain(self, feature: Feature, array: Array) -> Array | None:
        """The column of an array that holds what the feature takes; None where that takes a look at each value."""
        if array.dtype.kind in "fiu" and feature.is_numeric:
            allowed = self._rules[feature.name].allow_or_missing(array.reshape(-1, 1))
            return array.astype(feature.dtype) if allowed else None
        if array.dtype.kind in "fiu" and feature.dtype == "any" and feature.categories is None:
            return None if np.isinf(array).any() else array.astype(np.float64)
        if array.dtype.kind == "O" and (feature.dtype == "string" or feature.is_time):
            return _plain_texts(feature, array)
        return None

    @cached_property
    def _rules(self) -> Mapping[str, Rules]:
        return {feature.name: Rules((feature,)) for feature in self.features if feature.is_numeric}

    def _values(self, feature: Feature, array: Array, where: str) -> list[Any]:
        if array.dtype.kind == "M":
            times = values_of(array.reshape(-1))
            array = np.array([time.isoformat() for time in times], dtype=object).reshape(array.shape)
        values = [_text(value, f"{where}[{index}]") for index, value in enumerate(array.reshape(-1).tolist())]
        problems = [
            problem
            for index, value in enumerate(values)
            if not (value != value and (feature.nullable or feature.dtype == "any"))
            and (problem := check_value(feature, value, f"{where}[{index}]")) is not None
        ]
        if problems:
            raise InvalidInput(problems[:MOST_PROBLEMS])
        return values


def _plain_texts(feature: Feature, array: Array) -> Array | None:
    values = array.tolist()
    different = set(map(type, values))
    if not different <= {str, NoneType} or (NoneType in different and not feature.nullable):
        return None
    if feature.categories is not None and not set(values) - {None} <= set(feature.categories):
        return None
    if not feature.is_time:
        return array
    times = {text: parse_time(text, feature.dtype) for text in set(values) - {None}}
    if None in times.values():
        return None
    return np.array([times.get(text) for text in values], dtype="datetime64[ns]")


def _text(value: Any, where: str) -> Any:
    """Bytes as text; a replaced character would make another value of it, and another prediction."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidInput.at(where, "expected text in UTF-8") from None


def _taken_apart(tensors: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
    """One tensor of shape [rows, features] is the columns side by side, as for other models of tables."""
    if len(tensors) != 1 or len(names) < 2:
        return tensors
    (array,) = tensors.values()
    if array.ndim != 2 or array.shape[1] != len(names):
        return tensors
    return {name: array[:, place] for place, name in enumerate(names)}


def _column(feature: Feature, values: Sequence[Any]) -> Array:
    if feature.dtype == "any":
        # Numbers alone stay numbers; where something else is among them, each value stays what it is.
        numbers = all(
            value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values
        )
        if numbers and not all(value is None for value in values):
            return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    if feature.dtype in ("string", "any"):
        column = np.empty(len(values), dtype=object)
        for place, value in enumerate(values):  # at once, lists would be taken apart
            column[place] = value
        return column
    if feature.is_time:
        times = [None if value is None else parse_time(value, feature.dtype) for value in values]
        return np.array(times, dtype="datetime64[ns]")
    return np.array([np.nan if value is None else value for value in values], dtype=feature.dtype)
