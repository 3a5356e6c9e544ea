"""Holds an object against the resource definition: structure by JSON schema, rules by CEL. Pure.

Only what Kubernetes adds to the two is here: defaults, nulls that are left out, unknown fields, integer-or-string,
lists whose items are known by keys, and what its CEL has besides the standard functions.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from typing import Any

import cel
import jsonschema
import yaml
from cel.stdlib import add_stdlib_to_context

from modeldeploy.lint.manifest import Path, Problem

Schema = Mapping[str, Any]

_FILES = ("modeldeployments.yaml", "modelbatches.yaml", "modelpools.yaml")
_FUNCTIONS = {"isSorted": lambda items: all(a <= b for a, b in pairwise(items))}
#: Rules write fields that have the name of a word of CEL so; the library takes them as they are.
_ESCAPED = re.compile("__(namespace)__")


@dataclass(frozen=True, slots=True)
class Definition:
    """A resource definition: its kind, API version, and schema."""

    kind: str
    api_version: str
    schema: Schema


def read_definitions() -> Mapping[str, Definition]:
    """The resources as this version of modeldeploy knows them, by kind."""
    data = files("modeldeploy") / "data"
    found = [_definition(yaml.safe_load((data / name).read_text())["spec"]) for name in _FILES]
    return {one.kind: one for one in found}


def _definition(spec: Mapping[str, Any]) -> Definition:
    version = spec["versions"][0]
    return Definition(
        kind=spec["names"]["kind"],
        api_version=f"{spec['group']}/{version['name']}",
        schema=version["schema"]["openAPIV3Schema"],
    )


def check_object(body: Mapping[str, Any], definition: Definition) -> list[Problem]:
    """Everything that the API server would refuse; rules only where the structure is right."""
    judged = {
        **definition.schema,
        "required": ["metadata", *definition.schema["required"]],
        "properties": {**definition.schema["properties"], "metadata": _METADATA},
    }
    given = _without_nulls(body, judged)
    found = jsonschema.Draft4Validator(_closed(judged)).iter_errors(given)
    problems = [problem for error in found for problem in _problems(error)]
    problems += _duplicates(given, judged, ())
    if problems:
        return problems
    return list(_broken_rules(_with_defaults(given, definition.schema), definition.schema, ()))


_METADATA: Schema = {
    "type": "object",
    "x-kubernetes-preserve-unknown-fields": True,
    "required": ["name"],
    "properties": {"name": {"type": "string"}},
}


def _closed(schema: Schema) -> dict[str, Any]:
    """The schema in the words of JSON schema, with unknown fields forbidden as `kubectl apply` does."""
    closed = dict(schema)
    if schema.get("x-kubernetes-int-or-string"):
        closed["type"] = ["integer", "string"]
    if "properties" in schema:
        closed["properties"] = {name: _closed(child) for name, child in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed["additionalProperties"] = False
    if "items" in schema:
        closed["items"] = _closed(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        closed["additionalProperties"] = _closed(schema["additionalProperties"])
    return closed


def _without_nulls(value: Any, schema: Schema) -> Any:
    """A copy without the fields that are null, which the API server takes for absent."""
    if isinstance(value, dict):
        fields, others = schema.get("properties", {}), schema.get("additionalProperties")
        schemas = {name: fields.get(name, others) for name in value}
        kept = {name: child for name, child in value.items() if child is not None or not schemas[name]}
        return {name: _without_nulls(child, schemas[name] or {}) for name, child in kept.items()}
    if isinstance(value, list):
        return [_without_nulls(item, schema.get("items", {})) for item in value]
    return value


def _duplicates(value: Any, schema: Schema, path: Path) -> Iterator[Problem]:
    """Items that a list may hold once and holds twice."""
    if isinstance(value, dict):
        for name, child in schema.get("properties", {}).items():
            if name in value:
                yield from _duplicates(value[name], child, (*path, name))
    elif isinstance(value, list):
        identities = []
        for index, item in enumerate(value):
            yield from _duplicates(item, schema.get("items", {}), (*path, index))
            identity = _identity(item, schema)
            if identity and identity in identities:
                yield Problem((*path, index), f"{identity} stands here twice")
            identities.append(identity)


def _identity(item: Any, schema: Schema) -> str:
    """What a list knows an item by: its keys, or in a set all of it; empty where items may be alike."""
    keys = schema.get("x-kubernetes-list-map-keys", ())
    if keys and isinstance(item, dict) and all(key in item for key in keys):
        return " ".join(f"{key} {_written(item[key])}" for key in keys)
    return _written(item) if schema.get("x-kubernetes-list-type") == "set" else ""


def _problems(error: jsonschema.ValidationError) -> Iterator[Problem]:
    path: Path = tuple(error.absolute_path)
    given: Any = error.instance
    expected: Any = error.validator_value
    schema: Any = error.schema
    if error.validator == "additionalProperties":
        names = list(schema["properties"])
        for name in map(_written, given.keys() - names):
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(names)}"
            yield Problem((*path, name), f"unknown field; {hint}")
    elif error.validator == "required":
        # One error speaks of one field, and names it first.
        name = next(name for name in expected if error.message.startswith(f"'{name}'"))
        yield Problem((*path, name), "is required")
    elif error.validator in ("pattern", "type") and "(ms|s|m|h" in schema.get("pattern", ""):
        yield Problem(path, f"{_quoted(given)} is no duration; write one as in 90s or 1h30m")
    elif error.validator == "pattern" and "[KMGTPE]i" in expected:
        yield Problem(path, f"{_quoted(given)} is no quantity; write one as in 500m or 2Gi")
    elif error.validator == "enum":
        yield Problem(path, f"{_quoted(given)} is unknown; known are {', '.join(map(str, expected))}")
    elif error.validator == "type":
        yield Problem(path, f"{_quoted(given)} is no {_words(expected)}")
    elif error.validator in _LIMITS:
        yield Problem(path, _LIMITS[error.validator].format(expected))
    else:
        yield Problem(path, error.message)


_LIMITS = {
    "minItems": "must have at least {} items",
    "maxItems": "must have at most {} items",
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "minProperties": "must have at least {} fields",
    "maxProperties": "must have at most {} fields",
}


def _written(value: Any) -> str:
    """A value as a manifest would have it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _quoted(value: Any, limit: int = 200) -> str:
    text = f"'{value}'" if isinstance(value, str) else _written(value)
    return text if len(text) <= limit else f"{text[:limit]} ..."


def _words(types: str | list[str]) -> str:
    return types if isinstance(types, str) else " or ".join(types)


def _with_defaults(value: Any, schema: Schema) -> Any:
    if isinstance(value, dict):
        for name, child in schema.get("properties", {}).items():
            if name not in value and "default" in child:
                value[name] = deepcopy(child["default"])
            if name in value:
                value[name] = _with_defaults(value[name], child)
    elif isinstance(value, list) and "items" in schema:
        return [_with_defaults(item, schema["items"]) for item in value]
    return value


def _broken_rules(value: Any, schema: Schema, path: Path) -> Iterator[Problem]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"] and not _holds(rule["rule"], value):
            yield Problem(path, rule["message"])
    if isinstance(value, dict):
        for name, child in schema.get("properties", {}).items():
            if name in value:
                yield from _broken_rules(value[name], child, (*path, name))
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from _broken_rules(item, schema["items"], (*path, index))


def _holds(rule: str, value: Any) -> bool:
    context = cel.Context()
    add_stdlib_to_context(context)
    for name, function in _FUNCTIONS.items():
        context.add_function(name, function)
    context.add_variable("self", value)
    program = cel.compile(_ESCAPED.sub(r"\1", rule))
    try:
        return program.execute(context) is True
    except Exception:
        # A rule that cannot be computed does not hold, as for the API server; the library raises many kinds.
        return False
