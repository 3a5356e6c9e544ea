"""What features demand of arrays of numbers, asked of all rows at once; `matrix.py` and `columns.py` ask. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from model_server.domain.features import Feature
from model_server.domain.tensors import Array
from model_server.inputs.adapter import dummy_row

#: From here on a float may be the neighbour of the whole number that was sent.
_EXACT = 2**53


class Rules:
    """All that the features demand of a numeric array, asked of the whole array at once."""

    def __init__(self, features: Sequence[Feature]) -> None:
        low = np.array([_lowest(feature) for feature in features], dtype=np.float64)
        high = np.array([_highest(feature) for feature in features], dtype=np.float64)
        self._low, self._high = low, high
        self._required = [index for index, feature in enumerate(features) if not feature.nullable]
        self._allowed = np.array([_some_value(feature) for feature in features], dtype=np.float64)
        # JSON has no infinity and no NaN, so without rules any array of numbers will do.
        self.exist = any(feature.range or feature.categories or feature.dtype != "float64" for feature in features)
        self._integers = [index for index, feature in enumerate(features) if feature.is_integer]
        self._categories = [(index, feature.categories) for index, feature in enumerate(features) if feature.categories]

    def allow(self, array: Array, *, has_null: bool = False) -> bool:
        """False when some value may be at fault; the careful path then says which. `has_null`: NaN stands for null."""
        if has_null:
            missing = np.isnan(array)
            if missing[:, self._required].any():
                return False
            # Any number that is allowed there.
            array = np.where(missing, self._allowed, array)
        if not self.exist and math.isfinite(array.sum()):
            return True
        # Also false for NaN, which compares false with everything.
        if not ((array >= self._low) & (array <= self._high)).all():
            return False
        if self._integers and array.dtype.kind == "f":
            whole = array[:, self._integers]
            if (whole != np.floor(whole)).any() or (np.abs(whole) >= _EXACT).any():
                return False
        return all(np.isin(array[:, index], list(categories or ())).all() for index, categories in self._categories)

    def allow_or_missing(self, array: Array) -> bool:
        """The same, where NaN may stand for a value that is missing."""
        return self.allow(array) or (array.dtype.kind == "f" and self.allow(array, has_null=True))


def _some_value(feature: Feature) -> float:
    """A number that a nullable feature allows; 0 for the others."""
    (value,) = dummy_row([feature]) if feature.nullable else (0.0,)
    return float(value)


def _lowest(feature: Feature) -> float:
    limit = float(np.iinfo(feature.dtype).min if feature.is_integer else np.finfo(feature.dtype).min)
    return limit if feature.range is None else max(limit, feature.range[0])


def _highest(feature: Feature) -> float:
    limit = float(np.iinfo(feature.dtype).max if feature.is_integer else np.finfo(feature.dtype).max)
    if feature.is_integer and limit > np.iinfo(feature.dtype).max:
        # Of 64 bits, the next float is one more than fits: the careful path looks at what is close to it.
        limit = float(np.nextafter(limit, 0))
    return limit if feature.range is None else min(limit, feature.range[1])
