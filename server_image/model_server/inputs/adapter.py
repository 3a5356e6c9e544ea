"""The checks of values and rows that all input adapters share."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson

from model_server.domain.features import Feature, Scalar, parse_time
from model_server.errors import InvalidInput, Problem

MOST_PROBLEMS = 20
# A name is compared with every known one, which takes its time: for the first few, and not with thousands.
MOST_SUGGESTIONS = 3
MOST_COMPARED = 500
_NOT_KNOWN = "is not a feature of this model"


def preview(value: Any) -> str:
    """A value as JSON would show it, cut short, for messages."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    except TypeError:
        text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def holds_boolean(values: Sequence[Any]) -> bool:
    """Whether true or false is among nested lists of values: NumPy would take them for numbers."""
    return any(holds_boolean(value) if isinstance(value, list) else isinstance(value, bool) for value in values)


def check_value(feature: Feature, value: Any, where: str) -> Problem | None:
    """The fault of one JSON value as a value of `feature`, None when it has none."""
    if value is None:
        if feature.nullable or feature.dtype == "any":
            return None
        can_be = (
            "" if feature.is_integer or feature.dtype == "bool" else "; `nullable: true` in model.yaml would allow it"
        )
        return Problem(where, f"expected {expected(feature)}, got null{can_be}", feature.name, "missing")
    if not _has_type(feature, value):
        return Problem(where, f"expected {expected(feature)}, got {preview(value)}", feature.name, "wrong_type")
    if feature.categories is not None and value not in feature.categories:
        allowed = ", ".join(preview(category) for category in feature.categories)
        return Problem(where, f"expected one of {allowed}, got {preview(value)}", feature.name, "unseen_category")
    if feature.range is not None and not feature.range[0] <= value <= feature.range[1]:
        message = f"expected a value from {feature.range[0]:g} to {feature.range[1]:g}, got {preview(value)}"
        return Problem(where, message, feature.name, "out_of_range")
    return _check_width(feature, value, where)


def expected(feature: Feature) -> str:
    """What a feature takes, in words."""
    if feature.dtype == "string":
        return "a string"
    if feature.dtype == "any":
        return "any value"
    if feature.is_time:
        return "a date as 2024-03-01" if feature.dtype == "date" else "a date and time as 2024-03-01T05:00:00"
    if feature.dtype == "bool":
        return "true or false"
    return "an integer" if feature.is_integer else "a number"


def _has_type(feature: Feature, value: Any) -> bool:
    if feature.dtype == "any":
        return not isinstance(value, float) or math.isfinite(value)
    if feature.dtype == "string" or feature.is_time:
        return isinstance(value, str) and (not feature.is_time or parse_time(value, feature.dtype) is not None)
    if feature.dtype == "bool":
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and (not feature.is_integer or value == int(value))


def _check_width(feature: Feature, value: Any, where: str) -> Problem | None:
    if feature.is_integer:
        limits = np.iinfo(feature.dtype)
        if not limits.min <= value <= limits.max:
            return _too_wide(feature, value, where)
    elif feature.dtype in ("float32", "float16") and abs(value) > float(np.finfo(feature.dtype).max):
        return _too_wide(feature, value, where)
    return None


def _too_wide(feature: Feature, value: Any, where: str) -> Problem:
    return Problem(
        where, f"expected a value that fits {feature.dtype}, got {preview(value)}", feature.name, "out_of_range"
    )


def named_values(features: Sequence[Feature], row: Any, where: str) -> list[Any]:
    """The values of one row, an object or a list, in the features' order. Raises InvalidInput."""
    if isinstance(row, dict):
        names = {feature.name for feature in features}
        strange = [name for name in row if name not in names][:MOST_PROBLEMS]
        problems = [Problem(f"{where}.{name}", _unknown(name, features)) for name in strange[:MOST_SUGGESTIONS]]
        problems += [Problem(f"{where}.{name}", _NOT_KNOWN) for name in strange[MOST_SUGGESTIONS:]]
        problems += [
            Problem(f"{where}.{feature.name}", "is missing", feature.name, "missing")
            for feature in features
            if feature.name not in row and not feature.is_optional
        ]
        if problems:
            raise InvalidInput(problems)
        return [row.get(feature.name) for feature in features]
    if isinstance(row, list):
        if len(row) != len(features):
            raise InvalidInput.at(where, f"expected {len(features)} values, got {len(row)}")
        return row
    if len(features) == 1 and isinstance(row, str | int | float):
        return [row]
    raise InvalidInput.at(where, f"expected an object or a list of {len(features)} values, got {preview(row)}")


def checked_rows(features: Sequence[Feature], instances: Sequence[Any]) -> list[list[Any]]:
    """Every row's values in the features' order, each value checked. Raises InvalidInput with the faults."""
    rows: list[list[Any]] = []
    problems: list[Problem] = []
    for index, row in enumerate(instances):
        where = f"instances[{index}]"
        try:
            values = named_values(features, row, where)
        except InvalidInput as error:
            problems += error.problems
        else:
            found = (
                check_value(feature, value, f"{where}.{feature.name}")
                for feature, value in zip(features, values, strict=True)
            )
            problems += [problem for problem in found if problem is not None]
            rows.append(values)
        if len(problems) >= MOST_PROBLEMS:
            break
    if problems:
        raise InvalidInput(problems)
    return rows


def example_row(features: Sequence[Feature]) -> list[Any] | None:
    """The features' examples, None when one has none."""
    row = [feature.example for feature in features]
    return row if row and all(value is not None for value in row) else None


def dummy_row(
    features: Sequence[Feature],
    samples: Mapping[str, Scalar] = MappingProxyType({}),
    *,
    number: int = 0,
    text: str | None = None,
) -> list[Any]:
    """A value that each feature allows; of `samples`, which the model was trained with, where there is one.

    `number` is what numbers are, where their range allows it, and `text` what texts are and columns that take anything.
    """
    return [_dummy(feature, samples.get(feature.name), number, text) for feature in features]


def _dummy(feature: Feature, sample: Scalar | None, number: int, text: str | None) -> Any:
    if feature.example is not None:
        return feature.example
    if sample is not None and check_value(feature, sample, "") is None:
        return sample
    if feature.categories is not None:
        return feature.categories[0]
    if feature.range is not None:
        low, high = feature.range
        middle = min(max(float(number), low), high)
        return math.ceil(middle) if feature.is_integer else middle
    made_up: dict[str, Any] = {"string": text or "", "bool": False, "any": number if text is None else text}
    made_up |= {"date": "2024-03-01", "datetime": "2024-03-01T05:00:00"}
    return made_up.get(feature.dtype, number)


def _unknown(name: str, features: Sequence[Feature]) -> str:
    names = [feature.name for feature in features]
    close = difflib.get_close_matches(name[:100], names, n=1) if len(names) <= MOST_COMPARED else []
    listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"{_NOT_KNOWN}; did you mean {close[0]}?" if close else f"{_NOT_KNOWN}; known are {listed}"
