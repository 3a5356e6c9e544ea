"""Cells of a CSV table as the JSON values that a client would send; `/invocations` and batch prediction use it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from model_server.domain.features import Feature


def value_of(text: str, feature: Feature | None) -> Any:
    """A cell by its feature's type; what does not parse stays text, for the model's own check to name."""
    if feature is None or feature.dtype == "string":
        return None if text == "" and feature is not None and feature.nullable else text
    if feature.dtype == "any":
        return None if text == "" else _number(text, whole=False)
    if feature.is_time:
        return None if text == "" else text
    if text == "":
        return None
    if feature.dtype == "bool":
        return {"true": True, "false": False, "1": True, "0": False}.get(text.lower(), text)
    return _number(text, whole=feature.is_integer)


def number_or_text(text: Any) -> Any:
    """A cell of which nothing is known."""
    return _number(text, whole=False) if isinstance(text, str) else text


def named_twice(header: Sequence[str]) -> str | None:
    """A name that the header has twice: of two such columns one would be lost."""
    return next((name for name, count in Counter(header).items() if count > 1), None)


def _number(text: str, *, whole: bool) -> Any:
    if "_" in text:  # a separator to Python, and to nobody who writes tables
        return text
    try:
        return int(text) if whole else float(text)
    except ValueError:
        return _whole_float(text) if whole else text


def _whole_float(text: str) -> Any:
    """Integers as pandas writes them once a column had holes: 3.0."""
    try:
        return float(text)
    except ValueError:
        return text
