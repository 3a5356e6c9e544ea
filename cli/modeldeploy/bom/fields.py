"""Reads and makes the fields of documents; `document.py` and `model_card.py` call it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from modeldeploy.bom.facts import Document
from modeldeploy.requests import Refused

_PREFIX = "modeldeploy:"
#: The property with the digest of the package.
DIGEST = f"{_PREFIX}sha256"
Fields = dict[str, Any]


def words_of(document: Document, field: str) -> str:
    """A field that holds text or a number, "" if it is absent. Raises Refused."""
    value = document.get(field)
    if isinstance(value, dict | list):
        raise Refused(f"model.yaml: {field} is no text")
    return "" if value is None else str(value)


def fields_of(document: Document, field: str) -> Document:
    """A field that holds fields, {} if it is absent. Raises Refused."""
    value = document.get(field) or {}
    if not isinstance(value, dict):
        raise Refused(f"{field} holds a {type(value).__name__}, not fields")
    return value


def text_of(value: Any) -> str:
    """A value as text: as it is, or else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def properties_of(values: Mapping[str, str]) -> list[Fields]:
    """CycloneDX's list of names and values, under our own prefix, of those that have a value."""
    return [{"name": f"{_PREFIX}{name}", "value": value} for name, value in values.items() if value]


def without_empty(fields: Mapping[str, Any]) -> Fields:
    """The fields without those that say nothing."""
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}
