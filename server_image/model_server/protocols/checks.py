"""Checks that the decoders of several protocols share."""

from __future__ import annotations

from typing import Any

from model_server.errors import InvalidInput, MalformedRequest, RequestTooLarge


def limit_rows(rows: int, most: int, field: str) -> None:
    """Raise RequestTooLarge or, for no rows at all, InvalidInput."""
    if rows > most:
        raise RequestTooLarge(
            f"{field}: {rows} rows, and {most} are allowed in one request", hint="Send several requests."
        )
    if rows == 0:
        raise InvalidInput.at(field, "expected at least one row")


def rows_of_columns(columns: dict[str, Any]) -> list[Any]:
    """The rows of `{"a": [1, 2], "b": [3, 4]}`, one list a column. Raises InvalidInput."""
    lengths = {len(values) if isinstance(values, list) else -1 for values in columns.values()}
    if len(lengths) != 1 or -1 in lengths:
        raise InvalidInput.at("inputs", "expected lists of one length, one for each column")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def require_object(document: object) -> dict[str, object]:
    """The document as a JSON object. Raises MalformedRequest."""
    if not isinstance(document, dict):
        raise MalformedRequest(f"expected a JSON object, got {type_name(document)}")
    return document


def type_name(value: object) -> str:
    """JSON's name for a value's type."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
