"""The form to try a prediction, made of the model's own OpenAPI document, and the body made of the form. PURE."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]

PREDICT, EXPLAIN = "/predict", "/explain"
#: The header in which a model takes an API key, unless its document names another.
KEY_HEADER = "x-api-key"
#: Headers that a document may name: no credentials of the API server, and nothing that a proxy believes.
_KEY_HEADERS = re.compile(r"x-(?!remote-|forwarded-)[a-z0-9-]{1,60}", re.IGNORECASE)
#: Features that get a field of their own; of more, the form is the JSON alone.
_MOST_FIELDS = 200


class NoForm(Exception):
    """The document has no prediction that can be tried; the message says what is missing."""


class BadValue(Exception):
    """A value of the form is not what its field takes; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One feature. `kind` is number, integer, boolean, choice, text or json; `hint` says what it takes."""

    name: str
    kind: str
    value: str
    choices: tuple[str, ...] = ()
    hint: str = ""
    is_required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The fields of one row, and an example of the whole body as JSON.

    `key_header` is the header of the API key, "" where the model asks for none.
    """

    fields: tuple[Field, ...]
    example: str
    key_header: str = ""
    is_explained: bool = False


def form_of(document: Document) -> Form:
    """Return the form for one row. Raises `NoForm`."""
    try:
        operation = document["paths"][PREDICT]["post"]
        content = operation["requestBody"]["content"]["application/json"]
    except (KeyError, TypeError):
        raise NoForm(f"its OpenAPI document has no POST {PREDICT} with JSON") from None
    example = _example(content)
    row = _row_schema(content.get("schema") or {}, document)
    properties = row.get("properties") or {}
    given = (example.get("instances") or [{}])[0] if isinstance(example, Mapping) else {}
    values = given if isinstance(given, Mapping) else {}
    required = set(row.get("required") or properties)
    fields = tuple(
        _field(str(name), _resolved(schema, document), values.get(name), is_required=name in required)
        for name, schema in properties.items()
    )
    body = example if example else {"instances": []}
    return Form(
        fields=fields if len(fields) <= _MOST_FIELDS else (),
        example=json.dumps(body, indent=2, ensure_ascii=False),
        key_header=_key_header(operation, document),
        is_explained=EXPLAIN in document["paths"],
    )


def _key_header(operation: Document, document: Document) -> str:
    """Return the header of the first API key that the operation asks for: https://spec.openapis.org/oas/v3.1.0."""
    schemes = (document.get("components") or {}).get("securitySchemes") or {}
    asked = operation.get("security", document.get("security")) or ()
    for scheme in (schemes.get(name) or {} for one in asked for name in one):
        header = str(scheme.get("name", ""))
        if scheme.get("type") == "apiKey" and scheme.get("in") == "header" and _KEY_HEADERS.fullmatch(header):
            return header
    return ""


def body_of(form: Form, values: Mapping[str, str]) -> dict[str, Any]:
    """Return the body of a request for one row. Raises `BadValue`."""
    row = {}
    for field in form.fields:
        text = values.get(field.name, "").strip()
        if text or field.kind == "text":
            row[field.name] = _value(field, text)
        elif field.is_required:
            row[field.name] = None
    return {"instances": [row]}


def body_from_json(text: str) -> dict[str, Any]:
    """Return the body that is written as JSON. Raises `BadValue`."""
    try:
        body = json.loads(text)
    except ValueError as error:
        raise BadValue(f"The request is not JSON: {error}.") from None
    if not isinstance(body, dict):
        raise BadValue('The request has to be a JSON object, as in {"instances": [...]}.')
    return body


def _value(field: Field, text: str) -> Any:
    try:
        match field.kind:
            case "number":
                return float(text)
            case "integer":
                return int(text)
            case "boolean":
                return {"true": True, "false": False}[text.lower()]
            case "json":
                return json.loads(text)
    except (ValueError, KeyError):
        raise BadValue(f"{field.name}: {text!r} is no {field.kind}.") from None
    return text


def _example(content: Document) -> Any:
    named = content.get("examples") or {}
    values = [one["value"] for one in named.values() if isinstance(one, Mapping) and "value" in one]
    by_name = [one for one in values if isinstance(((one or {}).get("instances") or [None])[0], Mapping)]
    return next(iter([*by_name, *values]), content.get("example") or {})


def _row_schema(schema: Document, document: Document) -> Document:
    """Return the schema of a row by feature names; an empty one where there is none."""
    instances = (_resolved(schema, document).get("properties") or {}).get("instances") or {}
    items = _resolved(instances.get("items") or {}, document)
    candidates = [_resolved(one, document) for one in items.get("anyOf") or [items]]
    return next((one for one in candidates if one.get("type") == "object"), {})


def _resolved(schema: Any, document: Document) -> Document:
    """Follow a reference within the document."""
    if not isinstance(schema, Mapping):
        return {}
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if not name:
        return schema
    found = ((document.get("components") or {}).get("schemas") or {}).get(name)
    return found if isinstance(found, Mapping) else {}


def _field(name: str, schema: Document, example: Any, *, is_required: bool) -> Field:
    options = [one for one in schema.get("anyOf") or [schema] if isinstance(one, Mapping) and one.get("type") != "null"]
    inner = options[0] if options else schema
    choices = tuple(str(one) for one in inner.get("enum") or ())
    known = {"number": "number", "integer": "integer", "boolean": "boolean", "string": "text"}
    kind = "choice" if choices else known.get(str(inner.get("type")), "json")
    if example is None:
        example = next(iter(schema.get("examples") or inner.get("examples") or ()), None)
    text = "" if example is None else example if isinstance(example, str) else json.dumps(example)
    return Field(name=name, kind=kind, value=text, choices=choices, hint=_hint(kind, inner), is_required=is_required)


def _hint(kind: str, schema: Document) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    if low is not None:
        return f"at least {low:g}"
    if high is not None:
        return f"at most {high:g}"
    return {"integer": "a whole number", "boolean": "true or false", "json": "JSON"}.get(kind, "")
