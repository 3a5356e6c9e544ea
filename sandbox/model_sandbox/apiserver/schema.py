"""One shape for every kind's schema, whether built in or from a CustomResourceDefinition.

Built-in types are read from `data/kubernetes.types`, custom ones from `openAPIV3Schema`. Strict field
validation, pruning, defaults, list-map keys of server-side apply, merge keys of strategic merge patches and
`kubectl explain` all read the same `Node`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import resources
from typing import Any

from model_sandbox.apiserver.errors import Cause, Obj, not_supported, required
from model_sandbox.quantity import format_quantity


class Shape(StrEnum):
    """What a value is."""

    OBJECT = "object"
    MAP = "map"
    LIST = "list"
    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    BYTES = "bytes"
    QUANTITY = "quantity"
    INT_OR_STRING = "int-or-string"
    TIME = "time"
    ANY = "any"


_MISSING: Any = object()


@dataclass(slots=True)
class Node:
    """The schema of one value.

    `strict` nodes come from built-in types: a wrong type is a decoding error, and empty values are dropped
    or written as the Go types do. `emit`: present even when empty; `pointer`: an empty value is kept.
    """

    shape: Shape
    fields: dict[str, Node] = field(default_factory=dict)
    items: Node | None = None
    keys: tuple[str, ...] = ()  # list map keys
    is_set: bool = False
    atomic: bool = False
    merge: bool = False  # strategic merge patch joins instead of replacing
    merge_key: str = ""
    default: Any = _MISSING
    required: bool = False
    emit: bool = False
    pointer: bool = False
    strict: bool = False
    preserve: bool = False  # unknown fields stay
    nullable: bool = False
    enum: tuple[str, ...] = ()
    type_name: str = ""
    number: int = 0  # protobuf field number
    go_type: str = ""
    spread: tuple[Node, ...] = ()  # embedded messages, for protobuf only
    openapi: Obj = field(default_factory=dict)
    _defaults: tuple[str, ...] | None = None
    _needed: tuple[str, ...] | None = None

    @property
    def has_default(self) -> bool:
        """Whether an absent value is filled in."""
        return self.default is not _MISSING

    @property
    def item(self) -> Node:
        """The schema of a list's items or a map's values."""
        return self.items or ANY

    def named_defaults(self) -> tuple[str, ...]:
        """The members with a default."""
        if self._defaults is None:
            self._defaults = tuple(name for name, sub in self.fields.items() if sub.has_default)
        return self._defaults

    def needed(self) -> tuple[str, ...]:
        """The members that a built-in type requires."""
        if self._needed is None:
            self._needed = tuple(name for name, sub in self.fields.items() if sub.required and sub.shape in _DECLARED)
        return self._needed

    def child(self, name: str) -> Node | None:
        """The schema of a member, None when it is unknown."""
        if self.shape is Shape.MAP:
            return self.items
        return self.fields.get(name)


ANY = Node(Shape.ANY, preserve=True)
_SCALARS = {
    "string": Shape.STRING,
    "int32": Shape.INTEGER,
    "int64": Shape.INTEGER,
    "byte": Shape.INTEGER,
    "float": Shape.NUMBER,
    "bool": Shape.BOOLEAN,
    "bytes": Shape.BYTES,
    "Quantity": Shape.QUANTITY,
    "IntOrString": Shape.INT_OR_STRING,
    "Time": Shape.TIME,
    "MicroTime": Shape.TIME,
    "Raw": Shape.ANY,
    "JSONSchema": Shape.ANY,
}


class Types:
    """The built-in types, built into nodes on first use."""

    def __init__(self, text: str, defaults: Mapping[str, Obj]) -> None:
        self._lines: dict[str, list[list[str]]] = {}
        self._packages: dict[str, str] = {}
        self._enums: dict[str, tuple[str, ...]] = {}
        self._built: dict[str, Node] = {}
        self._defaults = defaults
        current: list[list[str]] = []
        for line in text.splitlines():
            words = line.split()
            if not words:
                continue
            if words[0] == "enum":
                self._enums[words[1]] = tuple(words[2:])
            elif line.startswith(" "):
                current.append(words)
            else:
                current = self._lines[words[0]] = []
                self._packages[words[0]] = words[1]

    def node(self, name: str) -> Node:
        """The schema of a named type. Raises KeyError for an unknown one."""
        found = self._built.get(name)
        if found is None:
            found = self._built[name] = Node(Shape.OBJECT, strict=True, type_name=name, go_type=self._packages[name])
            found.fields = self._fields(name, found)
        return found

    def _fields(self, name: str, owner: Node) -> dict[str, Node]:
        fields: dict[str, Node] = {}
        for words in self._lines[name]:
            if words[0] == "<":
                embedded = self.node(words[2])
                fields.update(embedded.fields)
                owner.spread = (*owner.spread, _numbered(embedded, words[1]))
                continue
            fields[words[0]] = self._field(words)
        for key, value in self._defaults.get(name, {}).items():
            fields[key].default = value
        return fields

    def _field(self, words: list[str]) -> Node:
        number, flag = re.fullmatch(r"(\d+)([!?]?)", words[1]).groups()  # type: ignore[union-attr]
        node = copy.copy(self._type(words[2]))
        node.number = int(number)
        node.emit, node.pointer = flag == "!", flag == "?"
        for option in words[3:]:
            name, _, value = option.partition("=")
            if name == "map":
                node.keys = tuple(value.split(","))
            elif name == "set":
                node.is_set = True
            elif name == "atomic":
                node.atomic = True
            elif name == "merge":
                node.merge, node.merge_key = True, value
            elif name == "default":
                node.default = {"true": True, "false": False}.get(value, value)
                if node.shape is Shape.INTEGER:
                    node.default = int(value)
            elif name == "required":
                node.required = True
        return node

    def _type(self, name: str) -> Node:
        if name.startswith("["):
            return Node(Shape.LIST, items=self._type(name[1:-1]), strict=True, atomic=False)
        if name.startswith("{"):
            return Node(Shape.MAP, items=self._type(name[1:-1]), strict=True)
        if name in _SCALARS:
            return Node(_SCALARS[name], strict=True, go_type=name, preserve=_SCALARS[name] is Shape.ANY)
        if name in self._enums:
            return Node(Shape.STRING, strict=True, go_type="string", enum=self._enums[name])
        return self.node(name)


def _numbered(node: Node, number: str) -> Node:
    numbered = copy.copy(node)
    numbered.number = int(number)
    return numbered


def load_types(defaults: Mapping[str, Obj]) -> Types:
    """The built-in types that come with the package."""
    text = (resources.files("model_sandbox") / "data" / "kubernetes.types").read_text()
    return Types(text, defaults)


def from_openapi(schema: Obj, metadata: Node | None = None) -> Node:
    """A custom resource's schema. `metadata` is set at the root and in embedded resources."""
    shape = {
        "object": Shape.OBJECT,
        "array": Shape.LIST,
        "string": Shape.STRING,
        "integer": Shape.INTEGER,
        "number": Shape.NUMBER,
        "boolean": Shape.BOOLEAN,
    }.get(schema.get("type", ""), Shape.ANY)
    if schema.get("x-kubernetes-int-or-string"):
        shape = Shape.INT_OR_STRING
    node = Node(shape, openapi=schema, nullable=bool(schema.get("nullable")))
    node.preserve = bool(schema.get("x-kubernetes-preserve-unknown-fields")) or shape is Shape.ANY
    if "default" in schema:
        node.default = schema["default"]
    node.keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
    node.is_set = schema.get("x-kubernetes-list-type") == "set"
    node.atomic = "atomic" in (schema.get("x-kubernetes-map-type"), schema.get("x-kubernetes-list-type"))
    node.fields = {name: from_openapi(sub) for name, sub in (schema.get("properties") or {}).items()}
    extra = schema.get("additionalProperties")
    if shape is Shape.OBJECT and extra and not node.fields:
        node.shape = Shape.MAP
        node.items = from_openapi(extra) if isinstance(extra, dict) else ANY
    if shape is Shape.LIST:
        node.items = from_openapi(schema.get("items") or {})
    if metadata is not None or schema.get("x-kubernetes-embedded-resource"):
        for name in ("apiVersion", "kind"):
            node.fields[name] = Node(Shape.STRING)
        node.fields["metadata"] = metadata or ANY
    return node


class DecodeError(Exception):
    """A value of the wrong JSON type for a built-in field."""


_GO_NAMES = {dict: "object", list: "array", str: "string", bool: "bool", int: "number", float: "number"}


@dataclass(slots=True)
class Unknown:
    """Collects the paths of fields that the schema does not know."""

    paths: list[str] = field(default_factory=list)


def join(path: str, name: str) -> str:
    """A member's path."""
    return f"{path}.{name}" if path else name


def decode(node: Node, value: Any, unknown: Unknown, path: str = "") -> Any:
    """A copy of `value` without unknown fields and, for built-in types, without what Go would drop.

    Raises DecodeError for a wrong type in a built-in type.
    """
    shape = node.shape
    if shape is Shape.OBJECT and isinstance(value, dict):
        return _decode_object(node, value, unknown, path)
    if shape is Shape.MAP and isinstance(value, dict):
        return {key: decode(node.item, item, unknown, f"{path}[{key}]") for key, item in value.items()}
    if shape is Shape.LIST and isinstance(value, list):
        return [decode(node.item, item, unknown, f"{path}[{index}]") for index, item in enumerate(value)]
    if node.strict:
        _check_scalar(node, value, path)
        if shape is Shape.QUANTITY:
            return format_quantity(value)
    return value


def _decode_object(node: Node, value: Obj, unknown: Unknown, path: str) -> Obj:
    result: Obj = {}
    for name, item in value.items():
        sub = node.fields.get(name)
        if sub is None:
            if node.preserve:
                result[name] = item
            else:
                unknown.paths.append(join(path, name))
            continue
        if item is None:
            if not sub.strict and (sub.nullable or not sub.has_default):
                result[name] = None
            continue
        decoded = decode(sub, item, unknown, join(path, name))
        if sub.strict and not sub.pointer and _is_empty(sub, decoded) and not _is_written_empty(sub):
            continue
        result[name] = decoded
    if node.strict:
        _emit(node, result)
    return result


def _emit(node: Node, result: Obj) -> None:
    for name, sub in node.fields.items():
        if sub.emit and name not in result:
            empty = _EMPTY.get(sub.shape)
            if sub.shape is Shape.OBJECT:
                result[name] = _decode_object(sub, {}, Unknown(), "")
            elif empty is not None:
                result[name] = empty


_EMPTY: dict[Shape, Any] = {Shape.STRING: "", Shape.INTEGER: 0, Shape.BOOLEAN: False, Shape.NUMBER: 0}


def _is_written_empty(node: Node) -> bool:
    return node.emit and node.shape not in (Shape.LIST, Shape.MAP)


def _is_empty(node: Node, value: Any) -> bool:
    if node.shape in (Shape.MAP, Shape.LIST, Shape.STRING, Shape.BYTES):
        return not value
    if node.shape is Shape.BOOLEAN:
        return value is False
    return node.shape in (Shape.INTEGER, Shape.NUMBER) and value == 0


_QUANTITY = re.compile(r"[+-]?(\d+|\d+\.\d*|\.\d+)(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?\d+))?")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_CHECKS: dict[Shape, Callable[[Any], bool]] = {
    Shape.ANY: lambda value: True,
    Shape.STRING: lambda value: isinstance(value, str),
    Shape.BYTES: lambda value: isinstance(value, str),
    Shape.TIME: lambda value: isinstance(value, str) and _TIME.fullmatch(value) is not None,
    Shape.BOOLEAN: lambda value: isinstance(value, bool),
    Shape.NUMBER: _is_number,
    Shape.INTEGER: lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
    Shape.QUANTITY: lambda value: _is_number(value) or isinstance(value, str),
    Shape.INT_OR_STRING: lambda value: isinstance(value, int | str) and not isinstance(value, bool),
}


def _check_scalar(node: Node, value: Any, path: str) -> None:
    shape = node.shape
    check = _CHECKS.get(shape)
    if check is None or not check(value):
        if shape is Shape.TIME and isinstance(value, str):
            raise DecodeError(f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse it')
        want = {Shape.OBJECT: node.type_name, Shape.INTEGER: node.go_type}.get(shape, shape.value)
        told = _GO_NAMES.get(type(value), "null")
        raise DecodeError(f"json: cannot unmarshal {told} into Go struct field {path} of type {want}")
    if shape is Shape.QUANTITY and not _QUANTITY.fullmatch(str(value)):
        raise DecodeError("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")


def apply_defaults(node: Node, value: Any) -> Any:
    """The value with absent fields filled in (the value itself is not changed)."""
    if node.shape is Shape.OBJECT and isinstance(value, dict):
        result = dict(value)
        for name in node.named_defaults():
            if name not in result:
                result[name] = copy.deepcopy(node.fields[name].default)
        for name, item in result.items():
            sub = node.fields.get(name)
            if sub is not None and sub.shape in _NESTED:
                result[name] = apply_defaults(sub, item)
        return result
    if node.shape is Shape.MAP and isinstance(value, dict) and node.items and node.items.shape in _NESTED:
        return {key: apply_defaults(node.items, item) for key, item in value.items()}
    if node.shape is Shape.LIST and isinstance(value, list) and node.items and node.items.shape in _NESTED:
        return [apply_defaults(node.items, item) for item in value]
    return value


_NESTED = (Shape.OBJECT, Shape.MAP, Shape.LIST)


def check_declared(node: Node, value: Any, path: str = "") -> list[Cause]:
    """What a built-in type's declaration alone can tell: required texts and enumerations."""
    causes: list[Cause] = []
    if node.shape is Shape.OBJECT and isinstance(value, dict):
        for name in node.needed():
            if value.get(name) in (None, "", []):
                causes.append(required(join(path, name)))
        for name, item in value.items():
            sub = node.fields.get(name)
            if sub is None or not item:
                continue
            if sub.enum and item not in sub.enum:
                causes.append(not_supported(join(path, name), item, sub.enum))
            elif sub.shape in _NESTED:
                causes.extend(check_declared(sub, item, join(path, name)))
    elif node.shape is Shape.LIST and node.items and node.items.shape is Shape.OBJECT:
        for index, item in enumerate(value):
            causes.extend(check_declared(node.items, item, f"{path}[{index}]"))
    elif node.shape is Shape.LIST and node.items and node.items.enum:
        for index, item in enumerate(value):
            if item not in node.items.enum:
                causes.append(not_supported(f"{path}[{index}]", item, node.items.enum))
    return causes


_DECLARED = (Shape.STRING, Shape.LIST, Shape.OBJECT)
