"""The manifest of a model, and what of it differs from what was last applied with kubectl. PURE."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

Body = Mapping[str, Any]

_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_SERVER_OWNED = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid", "selfLink")
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """One field: its path, the value that was applied ("" for none), and the live one ("" for none)."""

    path: str
    applied: str
    live: str


def manifest_of(body: Body) -> str:
    """Return the object as YAML, without its status and without what the API server and kubectl add."""
    metadata = {name: value for name, value in body["metadata"].items() if name not in _SERVER_OWNED}
    annotations = {name: value for name, value in (metadata.pop("annotations", None) or {}).items() if name != _APPLIED}
    if annotations:
        metadata["annotations"] = annotations
    shown = {"apiVersion": body.get("apiVersion"), "kind": body.get("kind"), "metadata": metadata}
    return yaml.safe_dump({**shown, "spec": body.get("spec") or {}}, sort_keys=False, allow_unicode=True)


def differences_of(body: Body, schema: Body) -> list[Difference] | None:
    """Return the fields of the spec that differ from what was last applied; None where that is not known.

    Args:
        body: the live object. `kubectl apply` writes what it applies into an annotation; a server-side apply does not.
        schema: OpenAPI schema of the object. A field that was not applied and has the default of the schema is equal.
    """
    try:
        applied = json.loads((body["metadata"].get("annotations") or {})[_APPLIED])
    except (KeyError, ValueError):
        return None
    of_spec = schema.get("properties", {}).get("spec", {})
    found = _compare(applied.get("spec") or {}, body.get("spec") or {}, of_spec, "spec")
    return [Difference(path, _text(before), _text(now)) for path, before, now in found]


def _compare(applied: Any, live: Any, schema: Body, path: str) -> Iterator[tuple[str, Any, Any]]:
    if applied is _MISSING and _is_default(live, schema):
        return
    if isinstance(live, Mapping) and (isinstance(applied, Mapping) or applied is _MISSING):
        before: Body = applied if isinstance(applied, Mapping) else {}
        for name in dict.fromkeys([*before, *live]):
            inner = schema.get("properties", {}).get(name) or schema.get("additionalProperties") or {}
            here = f"{path}.{name}"
            yield from _compare(before.get(name, _MISSING), live.get(name, _MISSING), _schema(inner), here)
    elif isinstance(live, list) and isinstance(applied, list) and len(live) == len(applied):
        for index, (one, other) in enumerate(zip(applied, live, strict=True)):
            yield from _compare(one, other, _schema(schema.get("items")), f"{path}[{index}]")
    elif applied != live and not (applied is None and live is _MISSING):
        yield path, applied, live


def _schema(found: Any) -> Body:
    return found if isinstance(found, Mapping) else {}


def _is_default(live: Any, schema: Body) -> bool:
    """Whether a field that was not applied is what the API server writes by itself."""
    return "default" in schema and schema["default"] == live


def _text(value: Any) -> str:
    return "" if value is _MISSING else json.dumps(value, ensure_ascii=False)
