"""Tables: what `kubectl get` prints, from each kind's columns in `data/kinds.yaml` or its definition."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from model_sandbox.apiserver import jsonpath
from model_sandbox.apiserver.cells import CELLS, NONE, UNKNOWN, age
from model_sandbox.apiserver.errors import Obj
from model_sandbox.apiserver.kinds import Kind
from model_sandbox.apiserver.selectors import selector_text

_AGE: Obj = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def definitions(kind: Kind) -> list[Obj]:
    """The column definitions of a kind's Table."""
    name = _definition("Name", "string", "name", 0)
    if kind.custom:
        return [name, *map(_custom_definition, kind.columns or (_AGE,))]
    columns = []
    for text in _with_age(kind):
        title = text.partition(" ")[0]
        plain = title.rstrip("*#").replace("_", " ")
        integer = "#" in title and kind.plural not in ("configmaps", "secrets")
        form = "name" if plain == "Name" else ""
        columns.append(_definition(plain, "integer" if integer else "string", form, int(title.endswith("*"))))
    return columns if kind.plural == "events" else [name, *columns]


def _with_age(kind: Kind) -> list[str]:
    columns = ["Age .metadata.creationTimestamp:age" if one == "AGE" else str(one) for one in kind.columns]
    return columns if "AGE" in kind.columns or kind.bare_columns else [*columns, "Age .metadata.creationTimestamp:age"]


def _definition(name: str, kind: str, form: str, priority: int, description: str = "") -> Obj:
    return {"name": name, "type": kind, "format": form, "description": description, "priority": priority}


def _custom_definition(column: Obj) -> Obj:
    told = column.get("description") or f"Custom resource definition column (in JSONPath format): {column['jsonPath']}"
    return _definition(column["name"], column["type"], column.get("format", ""), column.get("priority", 0), told)


def cells(kind: Kind, body: Obj, now: datetime) -> list[Any]:
    """One row."""
    name = body["metadata"].get("name", "")
    if kind.custom:
        return [name, *(custom_cell(column, body, now) for column in kind.columns or (_AGE,))]
    row = [_cell(text, body, now) for text in _with_age(kind)]
    return row if kind.plural == "events" else [name, *row]


_FIELD = re.compile(r"\{([^|}]*)\|?([^}]*)\}")
_EMPTY_TEXTS = ("Message", "Reason", "Subobject*")
_ZEROS = ("Up-to-date", "Available", "Replicas", "MaxPods")


def _cell(column: str, body: Obj, now: datetime) -> Any:
    """The cell of a built-in kind's column, as `data/kinds.yaml` describes it."""
    title, _, source = column.partition(" ")
    if source.startswith("@"):
        return CELLS[source[1:]](body, now)
    if "{" in source:
        return _FIELD.sub(lambda field: ",".join(map(str, _found(field[1], body))) or field[2], source)
    source, _, form = source.partition(":")
    value = next(iter(_found(source, body)), None)
    if form:
        return _FORMS[form](value, now)
    if value in (None, ""):
        return 0 if title.endswith("#") or title in _ZEROS else "" if title in _EMPTY_TEXTS else NONE
    return str(value) if title == "MinPods" else value


def _found(paths: str, body: Obj) -> list[Any]:
    """What the first of several paths, written with `??` between them, selects."""
    found = (jsonpath.find(path.strip(), body) for path in paths.split("??")) if paths else ()
    return next(filter(None, found), [])


_FORMS: dict[str, Callable[[Any, datetime], Any]] = {
    "age": age,
    "times": lambda value, now: value or 1,
    "selector": lambda value, now: selector_text(value) or NONE,
    "labels": lambda value, now: selector_text({"matchLabels": value or {}}) or NONE,
    "capitals": lambda value, now: ",".join("".join(filter(str.isupper, one)) for one in value or ()),
}


def custom_cell(column: Obj, body: Obj, now: datetime) -> Any:
    """The cell of a column as a CustomResourceDefinition describes it."""
    found = jsonpath.find(column["jsonPath"], body)
    if not found or found[0] is None:
        return None
    value, kind = found[0], column["type"]
    if kind == "date":
        return age(value, now) if isinstance(value, str) else UNKNOWN
    if kind == "string":
        return ",".join(map(_text, found))
    if kind == "boolean" or isinstance(value, bool):
        return value if kind == "boolean" and isinstance(value, bool) else None
    return (int if kind == "integer" else float)(value) if isinstance(value, int | float) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def row(kind: Kind, shown: Obj, now: datetime, include: str) -> Obj:
    """A row of a Table; `include` is the request's includeObject: Metadata, Object or None."""
    meta = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": shown["metadata"]}
    result: Obj = {"cells": cells(kind, shown, now)}
    return result if include == "None" else {**result, "object": shown if include == "Object" else meta}


def table(columns: list[Obj] | None, rows: list[Obj], metadata: Obj) -> Obj:
    """A Table; only the first one of a watch names its columns."""
    body: Obj = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
    return {**body, "columnDefinitions": columns, "rows": rows}


def utc_now() -> datetime:
    """The time for ages."""
    return datetime.now(UTC)
