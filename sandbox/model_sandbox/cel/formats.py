"""Holds the arguments of `'...'.format([...])` against its format string, as cel-go's validator does."""

from __future__ import annotations

import re

from model_sandbox.cel.checker import Checked
from model_sandbox.cel.syntax import Call, Expr, ListOf, Literal, MapOf

_CLAUSE = re.compile(r"(\.\d*)?(?P<letter>.?)", re.DOTALL)
_INTEGERS, _FLOATS = ("int", "uint"), ("double", "string")
_HEX = (*_INTEGERS, "string", "bytes")
_SHOWN = (*_INTEGERS, "list", "map", "double", "bool", "string", "timestamp", "bytes", "duration", "type", "null")
_CLAUSES = {  # the types that a clause takes, and what is said of others
    "s": (
        _SHOWN,
        "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, "
        "and timestamps",
    ),
    "d": (_INTEGERS, "decimal clause can only be used on integers"),
    "f": (_FLOATS, "fixed-point clause can only be used on doubles"),
    "e": (_FLOATS, "scientific clause can only be used on doubles"),
    "b": ((*_INTEGERS, "bool"), "only integers and bools can be formatted as binary"),
    "x": (_HEX, "only integers, byte buffers, and strings can be formatted as hex"),
    "X": (_HEX, "only integers, byte buffers, and strings can be formatted as hex"),
    "o": (_INTEGERS, "octal clause can only be used on integers"),
}


class _Problem(Exception):
    """What is wrong with a call, and at which node."""

    def __init__(self, node: int, message: str) -> None:
        super().__init__(message)
        self.node = node


def check_format(call: Call, checked: Checked) -> None:
    """Add to a checked expression what is wrong with a call of `format`. Only literals can be judged."""
    text, given = call.target, call.args[0] if call.args else None
    if not isinstance(text, Literal) or not isinstance(text.value, str) or not isinstance(given, ListOf):
        return
    try:
        count = _clauses(text.value, call, given.items, checked)
        if len(given.items) > count:
            counted = f"(expected {count}, got {len(given.items)})"
            raise _Problem(call.id, f"too many arguments supplied to string.format {counted}")
    except _Problem as problem:
        checked.problems.append((problem.node, str(problem)))


def _clauses(text: str, call: Call, items: list[Expr], checked: Checked) -> int:
    """Check each clause; the answer is how many there are."""
    count = 0
    rest = text.replace("%%", "")
    while "%" in rest:
        rest = rest[rest.index("%") + 1 :]
        if not rest:
            raise _Problem(call.id, "unexpected end of string")
        if count >= len(items):
            raise _Problem(call.id, f"index {count} out of range")
        found = _CLAUSE.match(rest)
        assert found is not None  # noqa: S101 - it takes any text
        letter = found["letter"]
        if letter not in _CLAUSES:
            why = f'unrecognized formatting clause "{letter}"'
            raise _Problem(call.id, f"could not parse formatting clause: {why}")
        kinds, why = _CLAUSES[letter]
        _check(items[count], kinds, why, checked, nested=letter == "s")
        rest = rest[found.end() :]
        count += 1
    return count


def _check(item: Expr, kinds: tuple[str, ...], why: str, checked: Checked, *, nested: bool) -> None:
    kind = checked.types[item.id]
    if kind.kind not in ("dyn", *kinds):
        raise _Problem(item.id, f"error during formatting: {why}, was given {kind.name}")
    below: list[Expr] = []
    if nested and isinstance(item, ListOf):
        below = item.items
    elif nested and isinstance(item, MapOf):
        below = [part for key, value, _ in item.entries for part in (key, value)]
    for inner in below:
        _check(inner, kinds, why, checked, nested=True)
