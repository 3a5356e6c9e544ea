"""Checks objects against their schema and its rules, in the order and words of Kubernetes.

Custom and built-in kinds take the same way; only what is told differs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_interface
from types import MappingProxyType
from typing import Any

from model_sandbox.apiserver.cel import CompileError, Rule
from model_sandbox.apiserver.errors import (
    Cause,
    Obj,
    go_value,
    invalid_value,
    not_supported,
    required,
    too_long,
    too_many,
)
from model_sandbox.apiserver.fieldsets import ListKeyError, element_of
from model_sandbox.apiserver.metadata import dns_label_errors, label_causes
from model_sandbox.apiserver.schema import (
    JSON_NAMES,
    RULES,
    TIME,
    Node,
    Shape,
    from_openapi,
    is_number,
    is_of,
    join,
)

# After one of these the object cannot be read reliably, and rules are not run.
_BLOCKING = {f"FieldValue{why}" for why in ("Required", "TypeInvalid", "NotSupported", "TooLong", "TooMany")}
_SKIPPED = (
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)
_FORMATS: dict[str, Callable[[str], Any]] = {  # a text of the format gives something, and no ValueError
    "date-time": TIME.fullmatch,
    "date": re.compile(r"\d{4}-\d\d-\d\d").fullmatch,
    "uuid": re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}").fullmatch,
    "byte": re.compile(r"[A-Za-z0-9+/]*={0,2}").fullmatch,
    "duration": re.compile(r"0|([+-]?(\d+\.?\d*|\.\d+)\s*(ns|us|µs|ms|s|m|h|d|w)\s*)+").fullmatch,
    "email": re.compile(r"[^@\s]+@[^@\s]+").fullmatch,
    "uri": re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+").fullmatch,
    "ipv4": IPv4Address,
    "ipv6": IPv6Address,
    "cidr": lambda text: "/" in text and ip_interface(text),
}


# --- rules


def compile_rules(node: Node, path: str = "") -> list[Cause]:
    """Compile every rule of a custom schema, whose types are right; the answer is what cannot be evaluated here."""
    problems = []
    for index, source in enumerate(node.openapi.get(RULES) or []):
        try:
            Rule(source, node)
        except CompileError as error:
            why = f"the sandbox cannot evaluate this rule, which Kubernetes accepts: {error}"
            problems.append(invalid_value(f"{path}.{RULES}[{index}].rule", source, why))
    for name, sub in node.fields.items():
        problems += [] if sub.strict else compile_rules(sub, f"{path}.properties[{name}]")
    if node.items is not None:
        problems += compile_rules(
            node.items, f"{path}.{'items' if node.shape is Shape.LIST else 'additionalProperties'}"
        )
    return problems


def check(root: Node, body: Obj, old: Obj | None) -> list[Cause]:
    """Everything that is wrong with an object; `old` is what it replaces."""
    causes = check_schema(root, body, "", (old or {}) if root.strict else {})
    if not root.strict and any(cause.reason in _BLOCKING for cause in causes):
        return [*causes, Cause("FieldValueInvalid", "<nil>", _SKIPPED)]
    return [*causes, *_run_rules(root, body, old, "", {})]


def _run_rules(node: Node, value: Any, old: Any, path: str, around: Mapping[str, Any]) -> Iterator[Cause]:
    """What the rules of a type, and of those in it, have against a value; `around`: enclosing objects by type."""
    if not node.is_ruled or value is None or (node.strict and not node.outside and value == old):
        return
    if node.type_name:
        around = {**around, node.type_name: value}
    if node.rules is None:
        node.rules = [Rule(source, node) for source in node.openapi.get(RULES) or ()]
    found = (rule.check(path, {**around, "self": value, "oldSelf": old}) for rule in node.rules)
    yield from filter(None, found)
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        for name, item in value.items():
            sub = node.child(name)
            if sub is not None:
                where = f"{path}[{name}]" if node.shape is Shape.MAP else join(path, name)
                yield from _run_rules(sub, item, before.get(name), where, around)
    elif isinstance(value, list):
        before = _by_key(node, old)
        for index, item in enumerate(value):
            match = before.get(element_of(node, item)) if before else None
            yield from _run_rules(node.item, item, match, f"{path}[{index}]", around)


def _by_key(node: Node, old: Any) -> dict[str, Any]:
    """Old items of a list map; items of other lists have no identity to compare."""
    return {element_of(node, item): item for item in old} if node.keys and isinstance(old, list) else {}


# --- schemas


def check_schema(node: Node, value: Any, path: str, old: Mapping[str, Any] = MappingProxyType({})) -> list[Cause]:
    """What the declarative part of a schema has against a value; its members that are as in `old` are not judged."""
    causes = [] if node.strict else _type_causes(node, value, path)
    if causes:
        return causes
    schema = node.openapi
    if isinstance(value, dict):
        empty: tuple[Any, ...] = (None, "", []) if node.strict else (None,)
        causes += [required(join(path, name)) for name in node.needed if value.get(name) in empty]
        for name, item in value.items():
            sub = node.child(name)
            given = item not in empty if node.strict else not _may_be_null(node, name, item)
            if sub is not None and sub.is_checked and given and not (name in old and old[name] == item):
                before = old[name] if node.strict and isinstance(old.get(name), dict) else {}
                causes += check_schema(sub, item, join(path, name), before)
        causes += _count_causes(schema, "Properties", len(value), path) if schema else []
        if schema.get("x-kubernetes-embedded-resource"):
            missing = (name for name in ("apiVersion", "kind") if not value.get(name))
            causes += [required(join(path, name), "must not be empty") for name in missing]
    elif isinstance(value, list):
        causes += _list_causes(node, value, path)
    elif isinstance(value, str):
        causes += _string_causes(node, value, path)
    elif is_number(value):
        causes += _number_causes(node, value, path)
    enum = node.enum or schema.get("enum")
    if enum and value not in enum:
        causes.append(not_supported(path, value, [str(one) for one in enum]))
    special = _SPECIAL.get(schema.get("format", "")) if node.strict else None
    if special is not None:
        causes += special(value, path)
    return causes if node.strict else [*causes, *_combined(schema, value, path)]


def _may_be_null(node: Node, name: str, item: Any) -> bool:
    sub = node.child(name)
    return item is None and ((sub is not None and sub.nullable) or name in node.needed)


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
    if (value is None and node.nullable) or is_of(node.shape, value):
        return []
    names = {Shape.MAP: "object", Shape.LIST: "array", Shape.INT_OR_STRING: "integer,string"}
    want, told = names.get(node.shape, node.shape.value), JSON_NAMES.get(type(value), "null")
    message = f'Invalid value: "{told}": {path} in body must be of type {want}: "{told}"'
    causes = [Cause("FieldValueTypeInvalid", path, message)]
    if node.shape is Shape.INTEGER and isinstance(value, float):
        extra = f'Invalid value: "": Checked value must be of type integer (default format) in {path}'
        causes.append(Cause("FieldValueInvalid", "<nil>", extra))
    return causes


def _string_causes(node: Node, value: str, path: str) -> list[Cause]:
    schema, causes = node.openapi, []
    longest, shortest, pattern = (schema.get(name) for name in ("maxLength", "minLength", "pattern"))
    if longest is not None and len(value) > longest:
        causes.append(too_long(path, longest))
    if shortest is not None and len(value) < shortest:
        causes.append(invalid_value(path, value, f"{path} in body should be at least {shortest} chars long"))
    if pattern and not re.search(pattern, value):
        causes.append(invalid_value(path, value, f"{path} in body should match '{pattern}'"))
    if not node.strict and not _has_format(value, schema.get("format", "")):
        told = f'{path} in body must be of type {schema["format"]}: "{value}"'
        causes.append(invalid_value(path, value, told))
    return causes


def _has_format(value: str, name: str) -> bool:
    try:
        return name not in _FORMATS or bool(_FORMATS[name](value))
    except ValueError:
        return False


def _number_causes(node: Node, value: float, path: str) -> list[Cause]:
    schema, causes = node.openapi, []
    least, most = schema.get("minimum"), schema.get("maximum")
    if schema.get("format") == "int32" and not -(2**31) <= value < 2**31:
        told = f'Invalid value: "": Checked value must be of type integer with format int32 in {path}'
        causes.append(Cause("FieldValueInvalid", "<nil>", told))
    for bound, strict, sign, word in (
        (least, schema.get("exclusiveMinimum"), 1, "greater"),
        (most, schema.get("exclusiveMaximum"), -1, "less"),
    ):
        # kube-openapi compares an integer with the bound as an integer: 0 is not below 0.001 (`MinimumNativeType`).
        if bound is not None and isinstance(value, int):
            bound = int(bound)
        if bound is not None and ((value - bound) * sign < 0 or (strict and value == bound)):
            told = f"should be {word} than{'' if strict else ' or equal to'} {bound}"
            if node.strict:
                told = f"must be greater than or equal to {bound}"
                told = told if most is None else f"must be between {least} and {most}, inclusive"
            causes.append(invalid_value(path, value, told if node.strict else f"{path} in body {told}"))
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
    causes = _count_causes(node.openapi, "Items", len(value), path) if node.openapi else []
    if any(cause.reason in _BLOCKING for cause in causes) or node.items is None:
        return causes
    if node.items.is_checked:
        for index, item in enumerate(value):
            causes += check_schema(node.items, item, f"{path}[{index}]")
    unique = node.openapi.get("unique", "")
    if unique or (not node.strict and not causes and (node.keys or node.is_set)):
        seen: set[str] = set()
        for index, item in enumerate(value):
            try:
                element = item.get(unique, "") if unique else element_of(node, item)
            except ListKeyError:
                continue
            if element and element in seen:
                shown = item[unique] if unique else {key: item.get(key) for key in node.keys} if node.keys else item
                where = join(f"{path}[{index}]", unique).rstrip(".")
                causes.append(Cause("FieldValueDuplicate", where, f"Duplicate value: {go_value(shown)}"))
            seen.add(element)
    return causes


_PERCENT = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', "
    "regex used for validation is '[0-9]+%')"
)
_DATA_KEY = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
# Formats that built-in types alone have.
_SPECIAL: dict[str, Callable[[Any, str], list[Cause]]] = {
    # An object's own labels are checked with its metadata.
    "labels": lambda value, path: [] if path == "metadata.labels" else label_causes(value, path),
    "dns-label": lambda value, path: [invalid_value(path, value, why) for why in dns_label_errors(value)],
    "percent": lambda value, path: (
        [invalid_value(path, value, _PERCENT)] if isinstance(value, str) and not re.fullmatch(r"[0-9]+%", value) else []
    ),
    "data": lambda value, path: [
        invalid_value(f"{path}[{key}]", key, _DATA_KEY)
        for key in value
        if not re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key)
    ],
}
