"""What calls of functions cost, and how large their results are, in cel-go's units. `cost.py` asks for each call."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from model_sandbox.cel.declarations import Overload
from model_sandbox.cel.syntax import Expr, Literal
from model_sandbox.cel.types import Type

MOST = 2**64 - 1
TEXT, REGEX, LIST, MAP = 0.1, 0.25, 10, 30  # costs per character of a text, of a pattern, per list, per map


@dataclass(frozen=True, slots=True)
class Range:
    """The least and the most of a size or a cost; neither overflows."""

    least: int
    most: int

    def __add__(self, other: Range) -> Range:
        return Range(min(self.least + other.least, MOST), min(self.most + other.most, MOST))

    def __mul__(self, other: Range) -> Range:
        return Range(min(self.least * other.least, MOST), min(self.most * other.most, MOST))

    def __or__(self, other: Range) -> Range:
        return Range(min(self.least, other.least), max(self.most, other.most))

    def times(self, factor: float) -> Range:
        """Both ends by a factor, rounded up."""
        return Range(_scaled(self.least, factor), _scaled(self.most, factor))


def _scaled(value: int, factor: float) -> int:
    result = float(value) * factor
    return MOST if result >= 2.0**64 else math.ceil(result)


def fixed(value: int) -> Range:
    """A range of one value."""
    return Range(value, value)


NOTHING, ONE, UNKNOWN = fixed(0), fixed(1), Range(0, MOST)


@dataclass(frozen=True, slots=True)
class Node:
    """An argument, or a receiver: its type, its size, and what is known of its items."""

    expr: Expr
    type: Type
    size: Range
    item: Node | None = None


Estimate = tuple[Range, Range | None]  # cost, and size of the result


Charge = Callable[[Overload, Node | None, Sequence[Node]], Estimate | None]


def _flat(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate:
    return ONE, None


def _traversed(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    """A text that is read once, and the result has its size."""
    one = target or (args[0] if args else None)
    return (one.size.times(TEXT), one.size) if one else None


def _read(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    """The first argument is read once, and the result has no size."""
    return (args[0].size.times(TEXT), None) if args else None


def _each(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    """Each item of a list is compared once; a text is read once."""
    if target is None:
        return None
    if target.item is None:
        return target.size.times(TEXT), None
    per = ONE
    if target.item.type.kind in ("string", "bytes"):
        per += target.item.size.times(TEXT)
    return target.size * per, None


def _replaced(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    if target is None or len(args) < 2:
        return None
    size, old, new = target.size, args[0].size, args[1].size
    times = kept = 0
    if not old.least:
        times, kept = min(size.most + 1, MOST), size.most
    elif new.most <= old.least:
        kept = size.most
    else:
        times = _scaled(size.most, 1 / old.least)
    fewest = least = 0
    if not old.most:
        fewest, least = size.least + 1, size.least
    elif old.most <= new.least:
        least = size.least
    else:
        fewest = _scaled(size.least, 1 / old.most)
    return size.times(2 * TEXT), Range(fewest, times) * new + Range(least, kept)


def _split(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    if target is None:
        return None
    limit = args[1].expr.value if len(args) > 1 and isinstance(args[1].expr, Literal) else None
    most = limit % 2**64 if isinstance(limit, int) else target.size.most
    return target.size.times(2 * TEXT), Range(0, most)


def _joined(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    if target is None:
        return None
    size = target.size * target.item.size if target.item else NOTHING
    if args:
        gaps = Range(max(target.size.least - 1, 0), max(target.size.most - 1, 0))
        size += args[0].size * gaps
    return size.times(TEXT), size


def _searched(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    if target is None or not args:
        return None
    cost = (target.size + ONE).times(TEXT) * args[0].size.times(REGEX)
    return cost, Range(0, target.size.most)


def _matched(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    found = _searched(overload, target, args)
    return (found[0], None) if found else None


def _contained(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    return (target.size.times(TEXT) * args[0].size.times(TEXT), None) if target and len(args) == 1 else None


def _formatted(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    return (target.size.times(TEXT), None) if target else None


def _ip(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    return (ONE, None) if target else _read(overload, target, args)


def _canonical(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    return (args[0].size.times(2 * TEXT), None) if args else None


def _within(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    """A network holds an address, or a network, which may be a text that is parsed first."""
    if not args:
        return None
    address = Range(4, 16)
    cost = (address + address).times(TEXT)
    if overload.result.kind == "bool" and overload.parameters[1].name == "string":
        cost += args[0].size.times(TEXT)
    return cost, None


def _network(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    found = _within(overload, target, args)
    return (found[0] + Range(4, 16).times(TEXT) + ONE, None) if found else None


def _validated(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    return (args[0].size.times(TEXT).times(128 * REGEX), None) if args else None


def _in(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    return (args[1].size, None) if overload.parameters[1].kind == "list" else None


def _equal(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    """Values of Kubernetes' own types are compared at once, but for formats and URLs."""
    name = args[0].type.name
    if args[0].type != args[1].type or not name.startswith(("net.", "kubernetes.")):
        return None
    if name == "kubernetes.NamedFormat":
        return Range(1, 64).times(TEXT), None
    return (Range(1, args[1].size.most).times(TEXT) if name == "kubernetes.URL" else ONE), None


def _bytes(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    size = args[0].size
    if overload.parameters[0].kind != "string":
        return None
    return size.times(TEXT), Range(size.least, min(size.most * 4, MOST))


def _string(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    size = args[0].size
    return (size.times(TEXT), Range(size.least // 4, size.most)) if overload.parameters[0].kind == "bytes" else None


def _affix(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    return args[0].size.times(TEXT), None


def _quoted(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    size = args[0].size
    return size.times(TEXT), Range(size.least + 2, min(size.most * 2 + 2, MOST))


# --- lists and sets


def _made(factor: float, size: Range) -> Estimate:
    return size.times(factor) + ONE + fixed(LIST), size


def _constant(node: Node, default: int) -> int:
    value = node.expr.value if isinstance(node.expr, Literal) and node.expr.type_name == "int" else default
    return max(int(value), 0)


def _slice(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    if target is None or len(args) != 2:
        return None
    return _made(1, fixed((_constant(args[1], target.size.most) - _constant(args[0], 0)) % 2**64))


def _numbers(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate:
    return _made(1, fixed(_constant(args[0], MOST)))


def _reversed(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    return _made(1, target.size) if target else None


def _flattened(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    return _made(_constant(args[0], MOST) if args else 1, target.size) if target else None


def _distinct(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    return _made(2, target.size * target.size) if target else None


def _sorted(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate | None:
    """Sorted by its own items, or by a list of keys."""
    one, keys = (args[0] if args else target), overload.parameters[-1].parameters[0]
    return _made(2 + (TEXT if keys.kind in ("string", "bytes") else 0), one.size * one.size) if one else None


def _compared(factor: int) -> Charge:
    def cost(overload: Overload, target: Node | None, args: Sequence[Node]) -> Estimate:
        return (args[0].size * args[1].size).times(factor) + ONE, None

    return cost


CHARGES: dict[str, Charge] = {
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _each),
    **dict.fromkeys(("url", "lowerAscii", "upperAscii", "substring", "trim"), _traversed),
    **dict.fromkeys(("cidr", "isIP", "isCIDR", "quantity", "isQuantity", "semver", "isSemver"), _read),
    **dict.fromkeys(("startsWith", "endsWith"), _affix),
    **dict.fromkeys(("_==_",), _equal),
    **dict.fromkeys(("find", "findAll"), _searched),
    "replace": _replaced,
    "split": _split,
    "join": _joined,
    "matches": _matched,
    "contains": _contained,
    "format": _formatted,
    "ip": _ip,
    "ip.isCanonical": _canonical,
    "containsIP": _within,
    "containsCIDR": _network,
    "validate": _validated,
    "@in": _in,
    "bytes": _bytes,
    "string": _string,
    "strings.quote": _quoted,
    "slice": _slice,
    "lists.range": _numbers,
    "reverse": _reversed,
    "flatten": _flattened,
    "distinct": _distinct,
    "sort": _sorted,
    "@sortByAssociatedKeys": _sorted,
    "sets.contains": _compared(1),
    "sets.intersects": _compared(1),
    "sets.equivalent": _compared(2),
}
