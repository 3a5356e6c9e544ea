"""CEL text to a syntax tree with positions. The parser is Google's; the macros it does not know are in `macros.py`.

The library hands its tree over as the protocol buffer `cel.expr.ParsedExpr`
(https://github.com/google/cel-spec/blob/master/proto/cel/expr/syntax.proto), of which a few fields are read here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext.ext_optional import ExtOptional


@dataclass(slots=True)
class Literal:
    """A constant; `type_name` is the name of its type."""

    id: int
    value: Any
    type_name: str


@dataclass(slots=True)
class Ident:
    """A variable or a type."""

    id: int
    name: str


@dataclass(slots=True)
class Select:
    """A field of a value, or with `test` whether there is one."""

    id: int
    operand: Expr
    name: str
    test: bool = False


@dataclass(slots=True)
class Call:
    """A call of a function, or of a method when there is a target."""

    id: int
    function: str
    args: list[Expr]
    target: Expr | None = None


@dataclass(slots=True)
class ListOf:
    """A list literal; `optional` holds the indices of optional items."""

    id: int
    items: list[Expr]
    optional: frozenset[int] = frozenset()


@dataclass(slots=True)
class MapOf:
    """A map literal: key, value, and whether the entry is optional."""

    id: int
    entries: list[tuple[Expr, Expr, bool]]


@dataclass(slots=True)
class Struct:
    """A message literal, whose types a schema does not have."""

    id: int
    name: str


@dataclass(slots=True)
class Loop:
    """A comprehension, which every macro over lists and maps becomes."""

    id: int
    over: Expr
    names: tuple[str, ...]  # of one or two iteration variables
    accumulator: str
    start: Expr
    condition: Expr
    step: Expr
    result: Expr


Expr = Literal | Ident | Select | Call | ListOf | MapOf | Struct | Loop


class SyntaxProblem(Exception):
    """Text that is not CEL; the message is the API server's."""


@dataclass(slots=True)
class Parsed:
    """An expression, its text, and the offset in characters at which each node stands."""

    text: str
    root: Expr
    positions: dict[int, int] = field(default_factory=dict)

    def report(self, problems: list[tuple[int, str]]) -> str:
        """Problems by node as the API server writes them, with the line and a caret, in the order of the text."""
        placed = [(*self._place(node), message) for node, message in problems]
        return "\n".join(self._shown(*one) for one in sorted(placed, key=lambda one: one[:2]))

    def _place(self, node: int) -> tuple[int, int]:
        before = self.text[: self.positions.get(node, 0)]
        return before.count("\n"), len(before) - (before.rfind("\n") + 1)

    def _shown(self, line: int, column: int, message: str) -> str:
        shown = self.text.split("\n")[line].replace("\t", " ")
        dots = "".join("." if one.isascii() else "\uff0e" for one in shown[:column])
        caret = "^" if shown[column : column + 1].isascii() else "\uff3e"
        return f"ERROR: <input>:{line + 1}:{column + 1}: {message}\n | {shown}\n | {dots}{caret}"


_TEXT = re.compile(r"""[rR]?(?:\'{3}.*?\'{3}|\"{3}.*?\"{3}|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|//[^\n]*""", re.DOTALL)
# What cel-go says where the parser's library has other words.
_WORDS = (
    (r"(all|exists|exists_one)\(\) variable name must be a simple identifier", "argument must be a simple name"),
    (r"(map|filter)\(\) variable name must be a simple identifier", "argument is not an identifier"),
    (r"has\(\) argument must be a field selection", "invalid argument to has() macro"),
    (r"\\u003F", "?"),
    (r"\nERROR: <input>:\d+:0: <<nil>> parsetree", ""),
    (r"ERROR: [^\n]*: invalid constant literal expression(\n \|[^\n]*)*\n(?=ERROR)", ""),
)


@cache
def _environment() -> Any:
    return cel.NewEnv(extensions=[ExtOptional()], variables={"pattern": cel.Type.STRING})


@cache
def _matcher() -> Any:
    return _environment().compile("''.matches(pattern)")


def is_pattern(text: str) -> bool:
    """Whether a text is a regular expression in RE2's syntax."""
    try:
        value = _matcher().eval(data={"pattern": text}).value()
    except RuntimeError:
        return False
    return isinstance(value, bool)


def parse(text: str) -> Parsed:
    """Parse an expression; raises SyntaxProblem."""
    quoted = _TEXT.sub(lambda match: " " * len(match[0]), text).find("`")
    if quoted >= 0:
        raise SyntaxProblem(
            Parsed(text, Literal(0, None, "null"), {0: quoted}).report([(0, "unsupported syntax: '`'")])
        )
    try:
        data = _environment().compile(text, disable_check=True).serialize()
    except RuntimeError as error:
        message = str(error).removeprefix("INVALID_ARGUMENT: ").removesuffix(" [INVALID_ARGUMENT]")
        for words, own in _WORDS:
            message = re.sub(words, own, message)
        raise SyntaxProblem(message) from None
    parsed = _fields(_fields(data)[2][0])
    positions = (_fields(entry) for entry in _fields(parsed[3][0]).get(4, ()))
    at = {entry.get(1, [0])[0]: entry.get(2, [0])[0] for entry in positions}
    return Parsed(text, _expr(parsed[2][0]), at)


# --- protocol buffers


def _varint(data: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return result, at


def _wire(data: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
        elif kind == 1:
            yield number, data[at : at + 8]
            at += 8
        else:
            size, at = _varint(data, at)
            yield number, data[at : at + size]
            at += size


def _fields(data: bytes) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for number, value in _wire(data):
        found.setdefault(number, []).append(value)
    return found


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _text(fields: dict[int, list[Any]], number: int) -> str:
    return bytes(fields.get(number, [b""])[0]).decode()


def _expr(data: bytes) -> Expr:
    fields = _fields(data)
    (node,) = fields.get(2, [0])
    kind = next((number for number in range(3, 10) if number in fields), 3)
    inner = _fields(fields.get(kind, [b""])[0])

    def child(number: int) -> Expr:
        return _expr(inner[number][0])

    if kind == 4:
        return Ident(node, _text(inner, 1))
    if kind == 5:
        return Select(node, child(1), _text(inner, 2), bool(inner.get(3, [0])[0]))
    if kind == 6:
        args = [_expr(one) for one in inner.get(3, ())]
        return Call(node, _text(inner, 2), args, child(1) if 1 in inner else None)
    if kind == 7:
        indices = inner.get(2, [])
        packed = b"".join(indices) if indices and isinstance(indices[0], bytes) else bytes(indices)
        return ListOf(node, [_expr(one) for one in inner.get(1, ())], frozenset(packed))
    if kind == 8:
        entries = [_fields(one) for one in inner.get(2, ())]
        if _text(inner, 1):
            return Struct(node, _text(inner, 1))
        return MapOf(node, [(_expr(one[3][0]), _expr(one[4][0]), bool(one.get(5, [0])[0])) for one in entries])
    if kind == 9:
        names = tuple(filter(None, (_text(inner, 1), _text(inner, 8))))
        return Loop(node, child(2), names, _text(inner, 3), child(4), child(5), child(6), child(7))
    return _literal(node, inner)


def _literal(node: int, inner: dict[int, list[Any]]) -> Literal:
    number, values = next(iter(inner.items()), (1, [0]))
    value: Any = values[0]
    if number == 5:
        return Literal(node, struct.unpack("<d", value)[0], "double")
    if number in (6, 7):
        return Literal(node, value.decode() if number == 6 else value, "string" if number == 6 else "bytes")
    names = {1: "null", 2: "bool", 3: "int", 4: "uint"}
    return Literal(node, {1: None, 2: bool(value), 3: _signed(value), 4: value}[number], names[number])
