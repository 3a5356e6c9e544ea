"""What every protocol decodes to."""

from __future__ import annotations

from dataclasses import dataclass

from model_server.errors import InvalidInput, MalformedRequest, RequestTooLarge
from model_server.tensors import Inputs


@dataclass(slots=True, kw_only=True)
class Call:
    """One request for predictions: arrays, and what should come back. Not frozen: that costs 3 us a request."""

    inputs: Inputs
    probabilities: bool = False
    # V2 only: the client's id, the outputs it names, and which of them as raw bytes.
    id: str | None = None
    outputs: tuple[str, ...] = ()
    binary_outputs: frozenset[str] = frozenset()
    all_binary: bool = False


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
