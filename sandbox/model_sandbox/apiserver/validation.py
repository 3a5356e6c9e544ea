"""Checks a custom object against its definition's schema, in the order and words of Kubernetes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from model_sandbox.apiserver.cel import CompileError, Rule
from model_sandbox.apiserver.errors import Cause, Obj, invalid_value, not_supported, required, too_long, too_many
from model_sandbox.apiserver.fieldsets import ListKeyError, element_of
from model_sandbox.apiserver.schema import Node, Shape, from_openapi, join

# After one of these the object cannot be read reliably, and rules are not run.
_BLOCKING = {
    "FieldValueRequired",
    "FieldValueTypeInvalid",
    "FieldValueNotSupported",
    "FieldValueTooLong",
    "FieldValueTooMany",
}
_SKIPPED = "some validation rules were not checked because the object was invalid; correct the existing errors "
_NAMES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
_FORMATS = {
    "date-time": re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)"),
    "date": re.compile(r"\d{4}-\d\d-\d\d"),
    "uuid": re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}"),
    "ipv4": re.compile(r"(\d{1,3}\.){3}\d{1,3}"),
    "byte": re.compile(r"[A-Za-z0-9+/]*={0,2}"),
}


@dataclass(slots=True)
class Validator:
    """The compiled checks of one version of a custom kind. Raises CompileError with the rule's place."""

    root: Node
    rules: dict[int, list[Rule]] = field(default_factory=dict)
    problems: list[Cause] = field(default_factory=list)

    def compile(self) -> None:
        """Compile every rule; what does not compile is collected in `problems`."""
        self._compile(self.root, "spec.validation.openAPIV3Schema")

    def _compile(self, node: Node, path: str) -> None:
        for index, source in enumerate(node.openapi.get("x-kubernetes-validations") or []):
            try:
                self.rules.setdefault(id(node), []).append(Rule(source, node))
            except CompileError as error:
                where = f"{path}.x-kubernetes-validations[{index}].rule"
                self.problems.append(invalid_value(where, source, str(error)))
        for name, sub in node.fields.items():
            self._compile(sub, f"{path}.properties[{name}]")
        if node.items is not None:
            self._compile(node.items, f"{path}.{'items' if node.shape is Shape.LIST else 'additionalProperties'}")

    def check(self, body: Obj, old: Obj | None) -> list[Cause]:
        """Everything that is wrong with an object; `old` is what it replaces."""
        causes = check_schema(self.root, body, "")
        if any(cause.reason in _BLOCKING for cause in causes):
            told = f"Invalid value: null: {_SKIPPED}to complete validation"
            return [*causes, Cause("FieldValueInvalid", "<nil>", told)]
        if self.rules:
            causes.extend(self._run(self.root, body, old, ""))
        return causes

    def _run(self, node: Node, value: Any, old: Any, path: str) -> list[Cause]:
        causes: list[Cause] = []
        # Ratcheting: what was there before and did not change is not judged again.
        is_unchanged = old is not None and value == old
        for rule in self.rules.get(id(node), ()):
            if is_unchanged if not rule.is_transition else old is None:
                continue
            cause = rule.check(path, value, old)
            if cause is not None:
                causes.append(cause)
        if isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            for name, item in value.items():
                sub = node.child(name)
                if sub is not None and item is not None:
                    where = f"{path}[{name}]" if node.shape is Shape.MAP else join(path, name)
                    causes.extend(self._run(sub, item, before.get(name), where))
        elif isinstance(value, list) and node.items is not None:
            before = _by_key(node, old)
            for index, item in enumerate(value):
                match = before.get(element_of(node, item)) if before else None
                causes.extend(self._run(node.items, item, match, f"{path}[{index}]"))
        return causes


def _by_key(node: Node, old: Any) -> dict[str, Any]:
    """Old items of a list map; items of other lists have no identity to compare."""
    if not node.keys or not isinstance(old, list):
        return {}
    return {element_of(node, item): item for item in old}


def _type_cause(path: str, want: str, value: Any) -> Cause:
    told = _NAMES.get(type(value), "null")
    return Cause(
        "FieldValueTypeInvalid", path, f'Invalid value: "{told}": {path} in body must be of type {want}: "{told}"'
    )


def check_schema(node: Node, value: Any, path: str) -> list[Cause]:
    """What the OpenAPI part of a schema has against a value."""
    causes = _type_causes(node, value, path)
    if causes:
        return causes
    schema = node.openapi
    causes = []
    if isinstance(value, dict):
        for name in schema.get("required") or []:
            if value.get(name) is None:
                causes.append(required(join(path, name)))
        for name, item in value.items():
            sub = node.child(name)
            if sub is None or (item is None and (sub.nullable or name in (schema.get("required") or []))):
                continue
            where = f"{path}.{name}" if path else name
            causes.extend(check_schema(sub, item, where))
        causes.extend(_count_causes(schema, "Properties", len(value), path))
    elif isinstance(value, list):
        causes.extend(_list_causes(node, value, path))
    elif isinstance(value, str):
        causes.extend(_string_causes(schema, value, path))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        causes.extend(_number_causes(schema, value, path))
    enum = schema.get("enum")
    if enum is not None and value not in enum:
        causes.append(not_supported(path, value, [str(one) for one in enum]))
    causes.extend(_combined(schema, value, path))
    return causes


def _combined(schema: Obj, value: Any, path: str) -> list[Cause]:
    """allOf, anyOf, oneOf and not, whose branches may only restrict values."""

    def failures(branch: Obj) -> list[Cause]:
        return check_schema(from_openapi(branch), value, path)

    causes = [cause for branch in schema.get("allOf") or [] for cause in failures(branch)]
    choices = () if schema.get("x-kubernetes-int-or-string") else schema.get("anyOf") or ()
    if choices and all(failures(branch) for branch in choices):
        causes.append(invalid_value(path, value, f"{path} in body must validate at least one schema (anyOf)"))
    if schema.get("oneOf") and sum(not failures(branch) for branch in schema["oneOf"]) != 1:
        causes.append(invalid_value(path, value, f"{path} in body must validate one and only one schema (oneOf)"))
    if schema.get("not") and not failures(schema["not"]):
        causes.append(invalid_value(path, value, f"{path} in body must not validate the schema (not)"))
    return causes


def _type_causes(node: Node, value: Any, path: str) -> list[Cause]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    shape = node.shape
    if value is None and node.nullable:
        return []
    if shape is Shape.INT_OR_STRING:
        good = isinstance(value, int | str) and not isinstance(value, bool)
        return [] if good else [_type_cause(path, "integer,string", value)]
    if shape is Shape.INTEGER and isinstance(value, float) and not value.is_integer():
        extra = f'Invalid value: "": Checked value must be of type integer (default format) in {path}'
        return [_type_cause(path, "integer", value), Cause("FieldValueInvalid", "<nil>", extra)]
    good = {
        Shape.OBJECT: isinstance(value, dict),
        Shape.MAP: isinstance(value, dict),
        Shape.LIST: isinstance(value, list),
        Shape.STRING: isinstance(value, str),
        Shape.INTEGER: number,
        Shape.NUMBER: number,
        Shape.BOOLEAN: isinstance(value, bool),
    }.get(shape, True)
    want = {Shape.MAP: "object", Shape.LIST: "array"}.get(shape, shape.value)
    return [] if good else [_type_cause(path, want, value)]


def _string_causes(schema: Obj, value: str, path: str) -> list[Cause]:
    causes = []
    longest, shortest = schema.get("maxLength"), schema.get("minLength")
    if longest is not None and len(value) > longest:
        causes.append(too_long(path, longest))
    if shortest is not None and len(value) < shortest:
        causes.append(invalid_value(path, value, f"{path} in body should be at least {shortest} chars long"))
    pattern = schema.get("pattern")
    if pattern and not re.search(pattern, value):
        causes.append(invalid_value(path, value, f"{path} in body should match '{pattern}'"))
    known = _FORMATS.get(schema.get("format", ""))
    if known and not known.fullmatch(value):
        told = f'{path} in body must be of type {schema["format"]}: "{value}"'
        causes.append(invalid_value(path, value, told))
    return causes


def _number_causes(schema: Obj, value: float, path: str) -> list[Cause]:
    causes = []
    for name, sign, word in (("minimum", 1, "greater"), ("maximum", -1, "less")):
        bound, strict = schema.get(name), bool(schema.get(f"exclusive{name.title()}"))
        if bound is not None and ((value - bound) * sign < 0 or (strict and value == bound)):
            told = f"{word} than" if strict else f"{word} than or equal to"
            causes.append(invalid_value(path, value, f"{path} in body should be {told} {bound}"))
    step = schema.get("multipleOf")
    if step and (value / step) % 1:
        causes.append(invalid_value(path, value, f"{path} in body should be a multiple of {step}"))
    return causes


def _count_causes(schema: Obj, what: str, count: int, path: str) -> list[Cause]:
    causes = []
    most, least = schema.get(f"max{what}"), schema.get(f"min{what}")
    if most is not None and count > most:
        causes.append(too_many(path, count, most))
    if least is not None and count < least:
        causes.append(invalid_value(path, count, f"{path} in body should have at least {least} {what.lower()}"))
    return causes


def _list_causes(node: Node, value: list[Any], path: str) -> list[Cause]:
    causes = _count_causes(node.openapi, "Items", len(value), path)
    if any(cause.reason in _BLOCKING for cause in causes) or node.items is None:
        return causes
    for index, item in enumerate(value):
        causes.extend(check_schema(node.items, item, f"{path}[{index}]"))
    if (node.keys or node.is_set) and not causes:
        seen: set[str] = set()
        for index, item in enumerate(value):
            try:
                element = element_of(node, item)
            except ListKeyError:
                continue
            if element in seen:
                shown = {key: item.get(key) for key in node.keys} if node.keys else item
                told = f"Duplicate value: {shown}"
                causes.append(Cause("FieldValueDuplicate", f"{path}[{index}]", told))
            seen.add(element)
    return causes
