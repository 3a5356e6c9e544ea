"""Checks that the decoders of several protocols share."""

from __future__ import annotations

from model_server.errors import InvalidInput, MalformedRequest, RequestTooLarge


def limit_rows(rows: int, most: int, field: str) -> None:
    """Raise RequestTooLarge or, for no rows at all, InvalidInput."""
    if rows > most:
        raise RequestTooLarge(
            f"{field}: {rows} rows, and {most} are allowed in one request", hint="Send several requests."
        )
    if rows == 0:
        raise InvalidInput.at(field, "expected at least one row")


def require_object(document: object) -> dict[str, object]:
    """The document as a JSON object. Raises MalformedRequest."""
    if not isinstance(document, dict):
        raise MalformedRequest(f"expected a JSON object, got {type_name(document)}")
    return document


def type_name(value: object) -> str:
    """JSON's name for a value's type."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
