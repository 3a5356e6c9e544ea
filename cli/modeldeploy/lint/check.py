"""Holds an object against the resource definition: structure by JSON schema, rules by CEL. Pure.

Only what Kubernetes adds to the two is here: defaults, unknown fields, integer-or-string, and the
functions that its CEL has besides the standard ones.
"""

import difflib
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

from modeldeploy.lint.manifest import Path

Schema = Mapping[str, Any]

_FUNCTIONS = {"isSorted": lambda items: all(a <= b for a, b in pairwise(items))}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with the field at `path`, in a sentence."""

    path: Path
    message: str

    @property
    def field(self) -> str:
        """The path as Kubernetes writes it, as in `spec.steps[2].setWeight`."""
        text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)
        return text.removeprefix(".")


@dataclass(frozen=True, slots=True)
class Definition:
    """A resource definition: its kind, API version, and schema."""

    kind: str
    api_version: str
    schema: Schema


def read_definition() -> Definition:
    """The ModelDeployment as this version of modeldeploy knows it."""
    text = (files("modeldeploy") / "data" / "modeldeployments.yaml").read_text()
    spec = yaml.safe_load(text)["spec"]
    version = spec["versions"][0]
    return Definition(
        kind=spec["names"]["kind"],
        api_version=f"{spec['group']}/{version['name']}",
        schema=version["schema"]["openAPIV3Schema"],
    )


def check_object(body: Mapping[str, Any], definition: Definition) -> list[Problem]:
    """Everything that the API server would refuse; rules only where the structure is right."""
    judged = {**definition.schema, "properties": {**definition.schema["properties"], "metadata": _METADATA}}
    found = jsonschema.Draft4Validator(_closed(judged)).iter_errors(body)
    problems = [problem for error in found for problem in _problems(error)]
    if problems:
        return problems
    whole = _with_defaults(deepcopy(dict(body)), definition.schema)
    return list(_broken_rules(whole, definition.schema, ()))


_METADATA: Schema = {
    "type": "object",
    "x-kubernetes-preserve-unknown-fields": True,
    "required": ["name"],
    "properties": {"name": {"type": "string"}},
}


def _closed(schema: Schema) -> dict[str, Any]:
    """The schema in the words of JSON schema, with unknown fields forbidden as `kubectl apply` does."""
    told = dict(schema)
    if schema.get("x-kubernetes-int-or-string"):
        told["type"] = ["integer", "string"]
    if "properties" in schema:
        told["properties"] = {name: _closed(child) for name, child in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            told["additionalProperties"] = False
    if "items" in schema:
        told["items"] = _closed(schema["items"])
    return told


def _problems(error: jsonschema.ValidationError) -> Iterator[Problem]:
    path: Path = tuple(error.absolute_path)
    given: Any = error.instance
    wanted: Any = error.validator_value
    schema: Any = error.schema
    if error.validator == "additionalProperties":
        known = list(schema["properties"])
        for name in given.keys() - known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            yield Problem((*path, name), f"unknown field; {hint}")
    elif error.validator == "required":
        # One error speaks of one field, and names it first.
        name = next(name for name in wanted if error.message.startswith(f"'{name}'"))
        yield Problem((*path, name), "is required")
    elif error.validator == "pattern" and "(ms|s|m|h|d)" in wanted:
        yield Problem(path, f"{given!r} is no duration; write one as in 90s or 1h30m")
    elif error.validator == "enum":
        yield Problem(path, f"{given!r} is unknown; known are {', '.join(map(str, wanted))}")
    elif error.validator == "type":
        yield Problem(path, f"{given!r} is no {_words(wanted)}")
    else:
        yield Problem(path, error.message)


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
    return cel.compile(rule).execute(context) is True
