"""Validation rules of a CustomResourceDefinition (`x-kubernetes-validations`), in CEL.

A `Rule` is compiled once when its definition is accepted. The language is a library's; the
functions that Kubernetes adds to it are here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import pairwise
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from model_sandbox.apiserver.errors import Cause, Obj
from model_sandbox.apiserver.schema import Node, Shape
from model_sandbox.quantity import parse_quantity

_CHAIN = re.compile(r"(?<![\w.])(?:self|oldSelf)((?:\.\w+)+)\s*(\(?)")
_TEXTS = re.compile(r"r?'(?:[^'\\]|\\.)*'|r?\"(?:[^\"\\]|\\.)*\"")
_REASONS = ("FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate")
_BOUND = re.compile(
    r"\.(?:all|exists|exists_one|existsOne|filter|map|transformList|transformMap)\(\s*(\w+)\s*,(?:\s*(\w+)\s*,)?"
)
_TYPES = frozenset(("int", "string", "double", "bool", "list", "map", "uint", "bytes", "null_type", "type"))
# Words of CEL that a property may share; Kubernetes writes such a property as __name__ in rules.
_RESERVED = frozenset(
    [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)


class CompileError(Exception):
    """A rule that is no CEL, or names what its schema does not have."""


def _is_url(text: str) -> bool:
    parts = urlsplit(text)
    return bool(parts.scheme and (parts.netloc or parts.path.startswith("/")))


def _is_quantity(text: str) -> bool:
    try:
        parse_quantity(text)
    except ValueError:
        return False
    return True


def _is_sorted(items: list[Any]) -> bool:
    return all(left <= right for left, right in pairwise(items))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "isSorted": _is_sorted,
    "sum": sum,
    "isURL": _is_url,
    "find": lambda text, pattern: found[0] if (found := re.search(pattern, text)) else "",
    "findAll": lambda text, pattern, limit=-1: [one[0] for one in re.finditer(pattern, text)][
        : None if limit < 0 else limit
    ],
    "isQuantity": _is_quantity,
    "quantity": lambda text: float(parse_quantity(text)),
    "isGreaterThan": lambda left, right: left > right,
    "isLessThan": lambda left, right: left < right,
    "compareTo": lambda left, right: (left > right) - (left < right),
}


class Rule:
    """One compiled rule.

    Raises CompileError. `node` is the schema that `self` has.
    """

    def __init__(self, source: Obj, node: Node) -> None:
        self.text: str = source["rule"]
        self.reason = source.get("reason") or "FieldValueInvalid"
        self.field_path: str = source.get("fieldPath", "")
        self._program = _compile(self.text, node)
        self._message: str = source.get("message", "")
        expression = source.get("messageExpression")
        self._message_program = _compile(expression, node) if expression else None
        self.is_transition = "oldSelf" in self._program.variables()
        if self.reason not in _REASONS:
            raise CompileError(f"reason {self.reason} is not one of {', '.join(_REASONS)}")
        self._escape = "__" in self.text
        library = _library()
        self._context = library.Context()
        library.stdlib.add_stdlib_to_context(self._context)
        for name, function in _FUNCTIONS.items():
            self._context.add_function(name, function)

    def check(self, path: str, value: Any, old: Any) -> Cause | None:
        """What the rule has against a value; `old` is None where there is nothing to compare with."""
        self._context.add_variable("self", _escaped(value) if self._escape else value)
        if old is not None:
            self._context.add_variable("oldSelf", _escaped(old) if self._escape else old)
        try:
            held = self._program.execute(self._context)
        except Exception as error:
            return self._cause(path, value, f"rule evaluation error: {error}")
        return None if held is True else self._cause(path, value, self._told())

    def _told(self) -> str:
        if self._message_program is not None:
            try:
                text = self._message_program.execute(self._context)
            except Exception:
                text = ""
            if isinstance(text, str) and text.strip():
                return text
        return self._message or f"failed rule: {self.text}"

    def _cause(self, path: str, value: Any, told: str) -> Cause:
        where = f"{path}{self.field_path}".lstrip(".") or "<nil>"
        if self.reason != "FieldValueInvalid":
            word = {"FieldValueForbidden": "Forbidden", "FieldValueRequired": "Required value"}
            return Cause(self.reason, where, f"{word.get(self.reason, 'Duplicate value')}: {told}")
        shown = "" if isinstance(value, dict | list) else f"{_json(value)}: "
        return Cause(self.reason, where, f"Invalid value: {shown}{told}")


def _json(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def _library() -> ModuleType:
    """The CEL library, loaded with the first rule: it brings a command line along, half of the start-up time."""
    return import_module("cel")


def _compile(text: str, node: Node) -> Any:
    try:
        program = _library().compile(text)
    except ValueError as error:
        raise CompileError(f"compilation failed: {error}") from None
    bound = {name for match in _BOUND.finditer(text) for name in match.groups() if name}
    for name in program.variables():
        if name not in {"self", "oldSelf", *_TYPES, *bound}:
            raise CompileError(f"compilation failed: ERROR: undeclared reference to '{name}' (in container '')")
    for name in _undefined(text, node):
        raise CompileError(f"compilation failed: ERROR: undefined field '{name}'")
    return program


def _undefined(text: str, node: Node) -> Iterator[str]:
    """Fields that a chain such as `self.a.b` names and the schema does not have."""
    for match in _CHAIN.finditer(_TEXTS.sub("''", text)):
        names = match[1].split(".")[1:]
        if match[2]:
            names = names[:-1]  # a function call
        at: Node | None = node
        for name in names:
            if at is None or at.shape is not Shape.OBJECT or at.preserve:
                break
            if unescape(name) not in at.fields:
                yield name
                break
            at = at.fields[unescape(name)]


def unescape(name: str) -> str:
    """A property as the schema writes it, from how a rule does."""
    if name.startswith("__") and name.endswith("__") and name[2:-2] in _RESERVED:
        return name[2:-2]
    for escaped, plain in (("__dot__", "."), ("__dash__", "-"), ("__slash__", "/"), ("__underscores__", "__")):
        name = name.replace(escaped, plain)
    return name


def _escape_name(name: str) -> str:
    if name in _RESERVED:
        return f"__{name}__"
    for plain, escaped in (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")):
        name = name.replace(plain, escaped)
    return name


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {_escape_name(key): _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value
