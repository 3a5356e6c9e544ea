"""The features of a model, and all that model.yaml says about it; `package/metadata.py` reads it."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from model_server.domain.calibration import Calibration

DType = Literal[
    "float64", "float32", "float16", "int64", "int32", "int16", "int8",
    "uint64", "uint32", "uint16", "uint8", "bool", "string", "date", "datetime", "any",
]  # fmt: skip
Scalar = bool | int | float | str


class Feature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One named column: its type, what values it may have, an example, and what it means."""

    name: Annotated[str, Meta(min_length=1)]
    dtype: DType = "float64"
    description: str = ""
    range: tuple[float, float] | None = None
    categories: tuple[Scalar, ...] | None = None
    nullable: bool = False
    required: bool = False
    example: Scalar | None = None

    @property
    def is_numeric(self) -> bool:
        """True when its values fit a numeric matrix."""
        return self.dtype not in ("string", "bool", "date", "datetime", "any")

    @property
    def is_time(self) -> bool:
        """True when its values are dates, or dates with a time of day."""
        return self.dtype in ("date", "datetime")

    @property
    def is_optional(self) -> bool:
        """True when a row may leave it out, which then is as null."""
        return self.nullable and not self.required

    @property
    def is_integer(self) -> bool:
        """True when its values are whole numbers."""
        return self.dtype.startswith(("int", "uint"))

    def has_type(self, value: Scalar) -> bool:
        """Whether a value is text, true or false, or a number, as this feature's are."""
        if self.dtype == "any":
            return True
        if self.is_time:
            return isinstance(value, str) and parse_time(value, self.dtype) is not None
        if self.dtype == "string":
            return isinstance(value, str)
        return isinstance(value, bool) if self.dtype == "bool" else type(value) in (int, float)

    def value_of(self, text: str) -> Scalar:
        """The value that is written as `text`. Raises ValueError when it is none of this feature's type."""
        if self.dtype == "string" or self.is_time or self.dtype == "any":
            return text
        if self.dtype != "bool":
            return float(text)
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{text!r} is neither true nor false")
        return text.lower() == "true"

    def __post_init__(self) -> None:
        if self.range is not None:
            low, high = self.range
            if not self.is_numeric:
                raise ValueError(f"a range needs a numeric dtype, and this one is {self.dtype}: use categories")
            if math.isnan(low) or math.isnan(high) or low > high:
                raise ValueError(f"range [{low:g}, {high:g}] is empty: write [lowest, highest]")
        if self.categories is not None and not self.categories:
            raise ValueError("categories is empty: list the allowed values, or leave it out")
        if self.nullable and (self.is_integer or self.dtype == "bool"):
            raise ValueError(f"nullable needs a float, string or time dtype, and this one is {self.dtype}")
        if self.example is not None:
            self._check_example(self.example)

    def _check_example(self, example: Scalar) -> None:
        if not self.has_type(example) or (self.is_integer and float(example) != int(example)):
            raise ValueError(f"example {example!r} is not a {self.dtype}")
        if self.range is not None and not self.range[0] <= float(example) <= self.range[1]:
            raise ValueError(f"example {example!r} is outside range [{self.range[0]:g}, {self.range[1]:g}]")
        if self.categories is not None and example not in self.categories:
            raise ValueError(f"example {example!r} is not one of categories {list(self.categories)}")


#: The first and the last moment that pandas' nanoseconds reach, without the broken years.
_FIRST, _LAST = datetime(1678, 1, 1), datetime(2262, 1, 1)


def parse_time(text: str, dtype: str) -> datetime | None:
    """A date, or a date with a time, in ISO 8601; in UTC where it has an offset. None for another text.

    https://docs.python.org/3/library/datetime.html#datetime.datetime.fromisoformat
    """
    try:
        if dtype == "date":
            day = date.fromisoformat(text)
            found = datetime(day.year, day.month, day.day)
        else:
            found = datetime.fromisoformat(text)
            if found.tzinfo is not None:
                found = found.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None
    return found if _FIRST <= found < _LAST else None


class ReferenceFeature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The distribution of one feature in the training data: a histogram, or counts by category.

    `missing` is how many further values were missing; None where nobody counted them.
    """

    edges: tuple[float, ...] | None = None
    counts: tuple[int, ...] | None = None
    categories: dict[str, int] | None = None
    missing: int | None = None

    def __post_init__(self) -> None:
        if self.missing is not None and self.missing < 0:
            raise ValueError("missing is negative")
        if (self.edges is None) == (self.categories is None):
            raise ValueError("give either edges and counts, or categories")
        if self.edges is not None:
            if self.counts is None or len(self.counts) != len(self.edges) - 1:
                raise ValueError(f"{len(self.edges)} edges need {len(self.edges) - 1} counts")
            if any(b <= a for a, b in zip(self.edges, self.edges[1:], strict=False)):
                raise ValueError("edges must increase")
        if any(count < 0 for count in (self.counts or (self.categories or {}).values())):
            raise ValueError("a count is negative")


class Metadata(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of model.yaml. Everything is optional."""

    name: str = ""
    version: str = ""
    description: str = ""
    format: str = "auto"
    task: str = ""
    artifacts: tuple[str, ...] = ()
    input_features: tuple[Feature, ...] = ()
    # What pre.py gives the model, where the model's file does not tell.
    model_features: tuple[Feature, ...] = ()
    output_features: tuple[Feature, ...] = ()
    hyperparameters: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    reference_profile: dict[str, ReferenceFeature] = {}
    reference_correlation: float | None = None
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        for name in self.artifacts:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not name:
                raise ValueError(f"artifacts: {name!r} must be a path inside the package")
        for field in ("input_features", "model_features", "output_features"):
            names = [feature.name for feature in getattr(self, field)]
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ValueError(f"{field} names {sorted(twice)[0]!r} twice")
        if self.reference_correlation is not None and not 0 <= self.reference_correlation < 1:
            raise ValueError("reference_correlation is not from 0 to below 1")
        strange = self.reference_profile.keys() - {feature.name for feature in self.input_features}
        if strange and self.input_features:
            raise ValueError(f"reference_profile names {sorted(strange)[0]!r}, which is not an input feature")
        for feature in self.input_features:
            _check_categories(feature)
            if feature.name in self.reference_profile:
                _check_profile(feature, self.reference_profile[feature.name])


def _check_categories(feature: Feature) -> None:
    for category in feature.categories or ():
        if not feature.has_type(category):
            expected = "string: put it in quotes" if feature.dtype == "string" else feature.dtype
            raise ValueError(f"category {category!r} of {feature.name!r} is not a {expected}")


def _check_profile(feature: Feature, reference: ReferenceFeature) -> None:
    if reference.edges is not None and (feature.dtype == "string" or feature.is_time):
        raise ValueError(
            f"reference_profile gives edges for {feature.name!r}, which is of dtype {feature.dtype}: categories"
        )
    for text in reference.categories or ():
        try:
            feature.value_of(text)
        except ValueError:
            raise ValueError(
                f"reference_profile counts {text!r} for {feature.name!r}, which is no value of dtype {feature.dtype}"
            ) from None
