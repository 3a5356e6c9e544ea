"""One shape for every kind's schema, whether built in or from a CustomResourceDefinition.

Built-in types are read from `data/kubernetes.types` and `data/rules.yaml`, custom ones from `openAPIV3Schema`. Strict
field validation, pruning, defaults, rules, list-map keys of server-side apply, merge keys of strategic merge patches
and `kubectl explain` all read the same `Node`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from model_sandbox.apiserver.errors import Obj
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
RULES = "x-kubernetes-validations"
NESTED = (Shape.OBJECT, Shape.MAP, Shape.LIST)


@dataclass
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
    values: Obj = field(default_factory=dict)  # what members get when they are absent, in this order
    required: bool = False
    emit: bool = False
    pointer: bool = False
    or_bool: bool = False  # true or false will do as well
    strict: bool = False
    preserve: bool = False  # unknown fields stay
    nullable: bool = False
    enum: tuple[str, ...] = ()
    type_name: str = ""
    number: int = 0  # protobuf field number
    go_type: str = ""
    spread: tuple[Node, ...] = ()  # embedded messages, for protobuf only
    rules: list[Any] | None = None  # compiled by validation.py when the first value is checked
    openapi: Obj = field(default_factory=dict)  # a custom schema as it was written, a built-in one's limits and rules

    @property
    def has_default(self) -> bool:
        """Whether an absent value is filled in."""
        return self.default is not _MISSING

    @property
    def below(self) -> list[Node]:
        """The schemas of what is in it."""
        return [*self.fields.values(), *([self.items] if self.items else [])]

    @property
    def item(self) -> Node:
        """The schema of a list's items or a map's values."""
        return self.items or ANY

    @cached_property
    def needed(self) -> tuple[str, ...]:
        """The members that must be given; of a built-in type's those whose absence can be told from zero."""
        shapes = (Shape.STRING, Shape.LIST, Shape.OBJECT)
        declared = (name for name, sub in self.fields.items() if sub.required and sub.shape in shapes)
        return tuple(declared) if self.strict else tuple(self.openapi.get("required") or ())

    @cached_property
    def is_checked(self) -> bool:
        """Whether any value of the type may be refused for what it is, or what is in it."""
        self.__dict__["is_checked"] = False  # what a type that contains itself hears while it asks what is in it
        within = any(sub.is_checked for sub in self.below)
        return within or not self.strict or bool(self.needed or self.enum or self.openapi)

    @cached_property
    def is_ruled(self) -> bool:
        """Whether the type has rules in CEL, or what is in it has."""
        self.__dict__["is_ruled"] = False
        return RULES in self.openapi or any(sub.is_ruled for sub in self.below)

    @cached_property
    def outside(self) -> frozenset[str]:
        """The types around it that rules of built-in types speak of: with them unchanged, nothing new can be wrong."""
        self.__dict__["outside"] = frozenset[str]()
        texts = " ".join(rule["rule"] for rule in self.openapi.get(RULES) or ())
        names = re.findall(r"\b([A-Z]\w+)\.", texts)
        return frozenset(names).union(*(sub.outside for sub in self.below)) - {self.type_name}

    def child(self, name: str) -> Node | None:
        """The schema of a member, None when it is unknown."""
        return self.items if self.shape is Shape.MAP else self.fields.get(name)


ANY = Node(Shape.ANY, preserve=True)
JSON_TYPES = ("array", "boolean", "integer", "number", "object", "string")


def from_openapi(schema: Obj, metadata: Node | None = None) -> Node:
    """A custom resource's schema. `metadata` is set at the root and in embedded resources."""
    kind, listed = schema.get("type", ""), schema.get("x-kubernetes-list-type")
    shape = Shape.LIST if kind == "array" else Shape(kind) if kind in JSON_TYPES else Shape.ANY
    if schema.get("x-kubernetes-int-or-string"):
        shape = Shape.INT_OR_STRING
    node = Node(
        shape,
        openapi=schema,
        nullable=bool(schema.get("nullable")),
        preserve=bool(schema.get("x-kubernetes-preserve-unknown-fields")) or shape is Shape.ANY,
        default=schema.get("default", _MISSING),
        keys=tuple(schema.get("x-kubernetes-list-map-keys") or ()),
        is_set=listed == "set",
        atomic="atomic" in (schema.get("x-kubernetes-map-type"), listed),
        fields={name: from_openapi(sub) for name, sub in (schema.get("properties") or {}).items()},
    )
    extra = schema.get("additionalProperties")
    if shape is Shape.OBJECT and extra and not node.fields:
        node.shape = Shape.MAP
        node.items = from_openapi(extra) if isinstance(extra, dict) else ANY
    if shape is Shape.LIST:
        node.items = from_openapi(schema.get("items") or {})
    if metadata is not None or schema.get("x-kubernetes-embedded-resource"):
        node.fields.update(apiVersion=Node(Shape.STRING), kind=Node(Shape.STRING), metadata=metadata or ANY)
    node.values = {name: sub.default for name, sub in node.fields.items() if sub.has_default}
    return node


class DecodeError(Exception):
    """A value of the wrong JSON type for a built-in field."""


def join(path: str, name: str) -> str:
    """A member's path."""
    return f"{path}.{name}" if path else name


def decode(node: Node, value: Any, unknown: list[str], path: str = "") -> Any:
    """A copy of `value` without unknown fields and, for built-in types, without what Go would drop.

    The paths of unknown fields are added to `unknown`. Raises DecodeError for a wrong type in a built-in type.
    """
    shape = node.shape
    if value is None and node.strict:  # an item of a list or map: Go makes a zero value of it
        value = _ZERO.get(shape)
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


def _decode_object(node: Node, value: Obj, unknown: list[str], path: str) -> Obj:
    result: Obj = {}
    for name, item in value.items():
        sub = node.fields.get(name)
        if sub is None:
            if node.preserve:
                result[name] = item
            else:
                unknown.append(join(path, name))
        elif item is None:
            if not sub.strict and sub.nullable:
                result[name] = None
        else:
            decoded = decode(sub, item, unknown, join(path, name))
            if decoded or not sub.strict or sub.pointer or sub.shape in _KEPT or (sub.emit and sub.shape in _EMPTY):
                result[name] = decoded
    if node.strict:
        for name, sub in node.fields.items():
            if sub.emit and name not in result:
                if sub.shape is Shape.OBJECT:
                    result[name] = _decode_object(sub, {}, unknown, path)
                elif sub.shape in _EMPTY:
                    result[name] = _EMPTY[sub.shape]
    return result


_EMPTY: dict[Shape, Any] = {Shape.STRING: "", Shape.INTEGER: 0, Shape.BOOLEAN: False, Shape.NUMBER: 0}
_ZERO: dict[Shape, Any] = {
    **_EMPTY,
    Shape.BYTES: "",
    Shape.QUANTITY: "0",
    Shape.OBJECT: {},
    Shape.MAP: {},
    Shape.LIST: [],
}
_BITS = {"int32": 31, "int64": 63}
# Go writes these even when they are empty.
_KEPT = (Shape.OBJECT, Shape.ANY, Shape.QUANTITY, Shape.INT_OR_STRING, Shape.TIME)
_QUANTITY = re.compile(r"[+-]?(\d+|\d+\.\d*|\.\d+)(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?\d+))?")
TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


_IS: dict[Shape, Callable[[Any], bool]] = {
    Shape.ANY: lambda value: True,
    Shape.STRING: lambda value: isinstance(value, str),
    Shape.BYTES: lambda value: isinstance(value, str),
    Shape.TIME: lambda value: isinstance(value, str),
    Shape.BOOLEAN: lambda value: isinstance(value, bool),
    Shape.NUMBER: is_number,
    Shape.INTEGER: lambda value: is_number(value) and (isinstance(value, int) or value.is_integer()),
    Shape.QUANTITY: lambda value: is_number(value) or isinstance(value, str),
    Shape.INT_OR_STRING: lambda value: isinstance(value, int | str) and not isinstance(value, bool),
    Shape.OBJECT: lambda value: isinstance(value, dict),
    Shape.MAP: lambda value: isinstance(value, dict),
    Shape.LIST: lambda value: isinstance(value, list),
}
JSON_NAMES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
_GO_NAMES = {**JSON_NAMES, bool: "bool", int: "number"}


def is_of(shape: Shape, value: Any) -> bool:
    """Whether a JSON value is of a shape."""
    return _IS[shape](value)


def _check_scalar(node: Node, value: Any, path: str) -> None:
    shape = node.shape
    if node.or_bool and isinstance(value, bool):
        return
    bits = _BITS.get(node.go_type, 63)
    if not is_of(shape, value) or (shape is Shape.INTEGER and not -(2**bits) <= value < 2**bits):
        want = {Shape.OBJECT: node.type_name, Shape.INTEGER: node.go_type}.get(shape, shape.value)
        told = _GO_NAMES.get(type(value), "null") + (f" {value}" if is_number(value) else "")
        raise DecodeError(f"json: cannot unmarshal {told} into Go struct field {path} of type {want}")
    if shape is Shape.TIME and not TIME.fullmatch(value):
        raise DecodeError(f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse it')
    if shape is Shape.QUANTITY and not _QUANTITY.fullmatch(str(value)):
        raise DecodeError("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    if shape is Shape.BYTES:
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise DecodeError("illegal base64 data at input byte 0") from None
