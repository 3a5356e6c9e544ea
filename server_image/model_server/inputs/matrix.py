"""Numeric features side by side in one two-dimensional array: what most tabular models take."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import numpy as np

from model_server.domain.features import Feature, Scalar
from model_server.domain.tensors import Array, Inputs, Tensor, datatype_of
from model_server.errors import InvalidInput, Problem
from model_server.inputs.adapter import MOST_PROBLEMS, check_value, checked_rows, dummy_row, example_row
from model_server.inputs.rules import Rules

_NUMBERS = frozenset({int, float})
_NUMBERS_AND_NULL = _NUMBERS | {type(None)}


class Matrix:
    """Rows of numbers, shape (rows, features), in one dtype that holds all of them."""

    def __init__(
        self,
        name: str,
        features: Sequence[Feature],
        dtype: np.dtype[Any],
        samples: Mapping[str, Scalar] = MappingProxyType({}),
    ) -> None:
        self.features = tuple(features)
        self._samples = samples
        self.name = name
        self.dtype = dtype
        self.tensors = (Tensor(name, datatype_of(dtype), (-1, len(features))),)
        names = [feature.name for feature in features]
        self._values_of = itemgetter(*names) if len(names) > 1 else lambda row: (row[names[0]],)
        self._rules = Rules(self.features)

    def from_instances(self, instances: Sequence[Any], *, numbers_only: bool) -> Inputs:
        width = len(self.features)
        try:
            rows = instances
            if type(instances[0]) is dict:
                rows = [self._values_of(row) for row in instances]
                if any(len(row) != width for row in instances):
                    return self._carefully(instances)
            # Without true, false and null the array's own dtype tells whether all values were numbers.
            kinds = _NUMBERS if numbers_only else _kinds(rows)
            if not kinds <= _NUMBERS_AND_NULL:
                return self._carefully(instances)
            has_null = type(None) in kinds
            # NumPy reads null as NaN, which no number in JSON is.
            array = np.array(rows, dtype=np.float64 if has_null else None)
        except (ValueError, TypeError, KeyError, IndexError):
            return self._carefully(instances)
        if array.dtype.kind not in "fiu" or array.shape != (len(instances), width):
            return self._carefully(instances)
        if (self._rules.exist or has_null) and not self._rules.allow(array, has_null=has_null):
            return self._carefully(instances)
        return {self.name: self._cast(array)}

    def from_tensors(self, tensors: Mapping[str, Array]) -> Inputs:
        array = self._as_matrix(tensors)
        if array.dtype.kind not in "fiu":
            raise InvalidInput.at(f"inputs[{self.name}]", f"expected numbers, got {datatype_of(array.dtype)}")
        if array.shape[1:] != (len(self.features),):
            raise InvalidInput.at(
                f"inputs[{self.name}].shape",
                f"expected [rows, {len(self.features)}], got {list(array.shape)}",
            )
        if not self._rules.allow_or_missing(array):
            self._explain(array)
        return {self.name: self._cast(array)}

    def example(self) -> Inputs | None:
        row = example_row(self.features)
        return None if row is None else {self.name: np.array([row], dtype=self.dtype)}

    def dummy_rows(self) -> Inputs | None:
        return {self.name: np.array([dummy_row(self.features, self._samples)], dtype=self.dtype)}

    def other_dummy_rows(self) -> Sequence[Inputs]:
        return [{self.name: np.array([dummy_row(self.features, self._samples, number=1)], dtype=self.dtype)}]

    def sample_row(self) -> list[Any] | None:
        return example_row(self.features) or dummy_row(self.features, self._samples)

    def _as_matrix(self, tensors: Mapping[str, Array]) -> Array:
        """The only tensor whatever its name, as peers accept it, or one column tensor for each feature."""
        if len(tensors) == 1:
            (array,) = tensors.values()
            return array.reshape(-1, 1) if len(self.features) == 1 and array.ndim == 1 else array
        names = [feature.name for feature in self.features]
        if set(tensors) != set(names):
            raise InvalidInput.at(
                "inputs", f"expected one tensor {self.name}, or one for each of {', '.join(names[:20])}"
            )
        columns = [tensors[name] for name in names]
        for name, column in zip(names, columns, strict=True):
            if column.size != len(column) or len(column) != len(columns[0]):
                raise InvalidInput.at(
                    f"inputs[{name}].shape",
                    f"expected [{len(columns[0])}] or [{len(columns[0])}, 1], got {list(column.shape)}",
                )
        return np.column_stack([column.reshape(-1) for column in columns])

    def _cast(self, array: Array) -> Array:
        return array if array.dtype == self.dtype else array.astype(self.dtype)

    def _carefully(self, instances: Sequence[Any]) -> Inputs:
        rows = checked_rows(self.features, instances)
        if self.dtype.kind in "iu":
            # Through a float, large whole numbers would lose their last digits.
            return {self.name: np.array([[int(value) for value in row] for row in rows], dtype=self.dtype)}
        return {self.name: np.array(rows, dtype=np.float64 if _has_null(rows) else None).astype(self.dtype)}

    def _explain(self, array: Array) -> None:
        """Raise for the values at fault. A fault that no single value shows is not a fault."""
        problems: list[Problem] = []
        for index, row in enumerate(array):
            for feature, value in zip(self.features, row.tolist(), strict=True):
                missing = value != value and feature.nullable
                problem = (
                    None if missing else check_value(feature, value, f"inputs[{self.name}][{index}].{feature.name}")
                )
                if problem is not None:
                    problems.append(problem)
            if len(problems) >= MOST_PROBLEMS:
                break
        if problems:
            raise InvalidInput(problems)


def _kinds(rows: Sequence[Any]) -> set[type]:
    """The types of all values."""
    return set(map(type, itertools.chain.from_iterable(rows)))


def _has_null(rows: Sequence[Sequence[Any]]) -> bool:
    return any(value is None for row in rows for value in row)


def matrix_dtype(features: Sequence[Feature]) -> np.dtype[Any]:
    """The narrowest dtype that holds every feature; whole numbers beside fractions to 53 bits, as in any float64."""
    return np.result_type(*(np.dtype(feature.dtype) for feature in features))
