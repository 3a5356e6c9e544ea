"""Types of a structural schema as rules see them, with the sizes that the API server assumes for cost estimates.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#type-checking
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from model_sandbox.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    Type,
    list_of,
    map_of,
)

Schema = dict[str, Any]
REQUEST_BYTES = 3 * 1024 * 1024  # of the largest request that the API server takes
RESERVED = frozenset(
    (
        *("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import"),
        *("let", "loop", "package", "namespace", "return", "var", "void", "while"),
    )
)
_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_META: Schema = {"type": "object", "properties": {name: {"type": "string"} for name in ("name", "generateName")}}
_FORMATS = {  # of strings: type, smallest size in JSON, most characters
    "byte": (BYTES, 2, REQUEST_BYTES - 2),
    "duration": (DURATION, 3, 32),
    "date": (TIMESTAMP, 12, 12),
    "date-time": (TIMESTAMP, 21, 32),
}
_SCALARS = {"boolean": (BOOL, 4), "number": (DOUBLE, 1), "integer": (INT, 1)}


@dataclass(frozen=True, slots=True)
class Declared:
    """A declared type. `largest`: most characters, items or entries; `smallest`: bytes of its shortest JSON."""

    type: Type
    smallest: int
    largest: int = 0
    fields: dict[str, Declared] = field(default_factory=dict)
    element: Declared | None = None

    def at(self, path: Sequence[str]) -> Declared | None:
        """The type at a path of field names, `@items`, `@values` and `@keys`."""
        found: Declared | None = self
        for name in path:
            if found is None:
                return None
            if name in ("@items", "@values"):
                found = found.element
            elif name == "@keys":
                found = Declared(STRING, 2) if found.type.kind == "map" else None
            else:
                found = found.fields.get(name)
        return found

    def objects(self) -> Iterator[Declared]:
        """The object types in it."""
        if self.type.kind == "object":
            yield self
        for inner in (*self.fields.values(), *([self.element] if self.element else [])):
            yield from inner.objects()


def escape(name: str) -> str:
    """A property's name as rules write it; empty for one that they cannot."""
    if name in RESERVED:
        return f"__{name}__"
    if not re.fullmatch(r"[A-Za-z_./-][A-Za-z0-9_./-]*", name):
        return ""
    return re.sub(r"__|[./-]", lambda match: _ESCAPES[match[0]], name)


def declare(schema: Schema, name: str = "selfType", *, is_root: bool = False) -> Declared | None:
    """The type of a schema, None where it has none. `is_root`: of a whole resource, which has metadata."""
    if schema.get("x-kubernetes-int-or-string"):
        return Declared(DYN, 1, _characters(schema, REQUEST_BYTES - 2))
    kind = schema.get("type", "object" if is_root else "")
    if kind == "array":
        return _list(schema, name)
    if kind == "object":
        return _object(schema, name, is_root=is_root)
    if kind == "string":
        return _string(schema)
    return Declared(*_SCALARS[kind]) if kind in _SCALARS else None


def _inner(schema: Schema, name: str) -> Declared | None:
    return declare(schema, name, is_root=bool(schema.get("x-kubernetes-embedded-resource")))


def _list(schema: Schema, name: str) -> Declared | None:
    item = _inner(schema.get("items") or {}, f"{name}.@idx")
    if item is None:
        return None
    most = max(schema["maxItems"], 0) if "maxItems" in schema else (REQUEST_BYTES - 2) // (item.smallest + 1)
    return Declared(list_of(item.type), 2, most, element=item)


def _object(schema: Schema, name: str, *, is_root: bool) -> Declared | None:
    properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
    if is_root:
        properties = {**properties, "kind": {"type": "string"}, "apiVersion": {"type": "string"}, "metadata": _META}
    if isinstance(extra, dict):
        value = _inner(extra, f"{name}.@elem")
        if value is None:
            return None
        fallback = (REQUEST_BYTES - 2) // (value.smallest + 6)
        most = max(schema["maxProperties"], 0) if "maxProperties" in schema else fallback
        return Declared(map_of(STRING, value.type), 2, most, element=value)
    fields, smallest = {}, 2
    for key, sub in properties.items():
        found = _inner(sub, f"{name}.{escape(key)}")
        if found is None:
            continue
        if escape(key):
            fields[escape(key)] = found
        if key in (schema.get("required") or ()) and "default" not in sub:
            smallest += len(key) + found.smallest + 4
    return Declared(Type("object", name), smallest, fields=fields)


def _string(schema: Schema) -> Declared:
    kind = schema.get("format")
    if kind in _FORMATS:
        one, smallest, most = _FORMATS[kind]
        limited = kind == "byte" and "maxLength" in schema
        return Declared(one, smallest, max(schema["maxLength"], 0) if limited else most)
    named = [len(one.encode()) for one in schema.get("enum") or () if isinstance(one, str)]
    return Declared(STRING, 2, _characters(schema, max(named, default=0) if schema.get("enum") else REQUEST_BYTES - 2))


def _characters(schema: Schema, fallback: int) -> int:
    """The most bytes of a text: four for each character."""
    return max(schema["maxLength"], 0) * 4 if "maxLength" in schema else fallback
