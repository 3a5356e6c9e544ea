"""What cel-go's validators find in an expression whose types are right: literals that are mixed or cannot be parsed."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

from model_sandbox.cel.checker import Checked
from model_sandbox.cel.formats import check_format
from model_sandbox.cel.syntax import Call, Expr, ListOf, Literal, Loop, MapOf, Select, is_pattern

_DURATION = re.compile(r"[+-]?(0|((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)")
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def check_literals(checked: Checked) -> None:
    """Add the problems of its literals to a checked expression."""
    _Literals(checked).check(checked.parsed.root)


class _Literals:
    def __init__(self, checked: Checked) -> None:
        self._checked = checked

    def check(self, one: Expr) -> None:
        if isinstance(one, Call):
            self._parse(one)
        elif isinstance(one, ListOf):
            self._alike(one.items, one.optional)
        elif isinstance(one, MapOf):
            self._alike([key for key, _, _ in one.entries], frozenset())
            optional = frozenset(index for index, (_, _, is_optional) in enumerate(one.entries) if is_optional)
            self._alike([value for _, value, _ in one.entries], optional)
        if isinstance(one, Call) and one.function == "format":
            check_format(one, self._checked)
        mixed = isinstance(one, Call) and one.function == "format" and one.target is not None
        for inner in _below(one):
            if not mixed:
                self.check(inner)

    def _alike(self, items: list[Expr], optional: frozenset[int]) -> None:
        types = [self._checked.types[item.id] for item in items]
        types = [one.parameters[0] if index in optional else one for index, one in enumerate(types)]
        for item, found in zip(items, types, strict=True):
            if found != types[0]:
                self._checked.problems.append((item.id, f"expected type '{types[0]}' but found '{found}'"))
                return

    def _parse(self, call: Call) -> None:
        parse_one = _PARSERS.get(call.function)
        arg = call.args[-1] if call.args else None
        if parse_one is None or not isinstance(arg, Literal) or not isinstance(arg.value, str):
            return
        if not parse_one(arg.value):
            self._checked.problems.append((arg.id, f"invalid {call.function} argument"))


def _is_stamp(text: str) -> bool:
    try:
        return bool(_STAMP.fullmatch(text) and datetime.fromisoformat(text))
    except ValueError:
        return False


_PARSERS: dict[str, Callable[[str], object]] = {
    "duration": _DURATION.fullmatch,
    "timestamp": _is_stamp,
    "matches": is_pattern,
}


def _below(one: Expr) -> list[Expr]:
    if isinstance(one, Select):
        return [one.operand]
    if isinstance(one, Call):
        return [*([one.target] if one.target else []), *one.args]
    if isinstance(one, ListOf):
        return one.items
    if isinstance(one, MapOf):
        return [part for key, value, _ in one.entries for part in (key, value)]
    if isinstance(one, Loop):
        return [one.over, one.start, one.condition, one.step, one.result]
    return []
