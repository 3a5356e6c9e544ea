"""The estimated cost of a checked expression: the most that it may cost for any object that the schema admits.

Computes what cel-go's estimator and Kubernetes' additions to it compute, in the same units. The costs of Kubernetes'
authorizer are left out: rules have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model_sandbox.cel.charges import (
    CHARGES,
    LIST,
    MAP,
    MOST,
    NOTHING,
    ONE,
    TEXT,
    UNKNOWN,
    Estimate,
    Node,
    Range,
    fixed,
)
from model_sandbox.cel.checker import Checked
from model_sandbox.cel.declarations import Overload
from model_sandbox.cel.declared import Declared
from model_sandbox.cel.macros import ACCUMULATOR
from model_sandbox.cel.syntax import Call, Expr, Ident, ListOf, Literal, Loop, MapOf, Select
from model_sandbox.cel.types import Type, unwrapped

_FIXED = ("bool", "double", "duration", "int", "timestamp", "uint")
_ORDER = ("_<_", "_<=_", "_>_", "_>=_")


@dataclass(frozen=True, slots=True)
class _Entry:
    """The sizes of a list's items, or of a map's keys and values."""

    kind: str
    key: Range
    value: Range


@dataclass(frozen=True, slots=True)
class _Local:
    path: tuple[str, ...]
    size: Range | None = None
    entry: _Entry | None = None


def estimate(checked: Checked, root: Declared) -> int:
    """The most that a checked expression may cost. `root` is the type of `self`."""
    return _Estimator(checked, root).cost(checked.parsed.root).most


class _Estimator:
    def __init__(self, checked: Checked, root: Declared) -> None:
        self._checked = checked
        self._root = root
        self._paths: dict[int, tuple[str, ...]] = {}
        self._sizes: dict[int, Range] = {}
        self._entries: dict[int, _Entry] = {}
        self._locals: dict[str, list[_Local]] = {}

    def cost(self, one: Expr) -> Range:
        """What an expression costs; sizes and paths of what it contains are kept."""
        if isinstance(one, Ident):
            local = self._local(one)
            self._paths[one.id] = local.path if local else (one.name,)
            return ONE
        if isinstance(one, Select):
            return self._select(one)
        if isinstance(one, Call):
            return self._call(one)
        if isinstance(one, ListOf):
            cost = sum(map(self.cost, one.items), fixed(LIST))
            self._entries[one.id] = _Entry("list", ONE, self._union(one.items))
            return cost
        if isinstance(one, MapOf):
            cost = sum((self.cost(key) + self.cost(value) for key, value, _ in one.entries), fixed(MAP))
            keys, values = ([entry[part] for entry in one.entries] for part in (0, 1))
            self._entries[one.id] = _Entry("map", self._union(keys), self._union(values))  # type: ignore[arg-type]
            return cost
        return self._loop(one) if isinstance(one, Loop) else NOTHING

    def _union(self, items: Sequence[Expr]) -> Range:
        result = Range(MOST if items else 0, 0)
        for item in items:
            result |= self._size(item)
        return result

    def _type(self, one: Expr) -> Type:
        return self._checked.types[one.id]

    def _select(self, one: Select) -> Range:
        if one.operand.id not in self._checked.types:  # the name of a type, as in google.protobuf.Duration
            self._paths[one.id] = (one.name,)
            return ONE
        cost = self.cost(one.operand)
        if one.test:
            return cost
        if self._type(one.operand).kind in ("map", "object", "param"):
            cost += ONE
        self._paths[one.id] = (*self._path(one.operand), one.name)
        return cost

    # --- sizes

    def _local(self, one: Expr) -> _Local | None:
        held = self._locals.get(one.name) if isinstance(one, Ident) else None
        return held[-1] if held else None

    def _path(self, one: Expr) -> tuple[str, ...]:
        local = self._local(one)
        return local.path if local else self._paths.get(one.id, ())

    def _known_size(self, one: Expr) -> Range | None:
        if one.id in self._sizes:
            return self._sizes[one.id]
        if isinstance(one, Literal):
            return fixed(len(one.value) if isinstance(one.value, str | bytes) else 1)
        if isinstance(one, ListOf):
            return fixed(len(one.items))
        if isinstance(one, MapOf):
            return fixed(len(one.entries))
        declared = self._declared(self._path(one))
        if declared is not None:
            self._sizes[one.id] = declared
            return declared
        if unwrapped(self._type(one))[0].kind in _FIXED:
            return ONE
        local = self._local(one)
        return local.size if local else None

    def _declared(self, path: tuple[str, ...]) -> Range | None:
        found = self._root.at(path[1:]) if path else None
        return Range(0, found.largest) if found else None

    def _size(self, one: Expr) -> Range:
        return self._known_size(one) or UNKNOWN

    def _entry(self, one: Expr) -> _Entry | None:
        local = self._local(one)
        return self._entries.get(one.id) or (local.entry if local else None)

    def _node(self, one: Expr) -> Node:
        path, kind = self._path(one), self._type(one)
        item = None
        if kind.parameters:
            inner = () if path[:1] == (ACCUMULATOR,) or not path else (*path, "@items")
            item = Node(one, kind.parameters[0], self._declared(inner) or UNKNOWN)
        return Node(one, kind, self._size(one), item)

    # --- loops

    def _loop(self, one: Loop) -> Range:
        if one.condition == Literal(one.condition.id, False, "bool") and one.accumulator != ACCUMULATOR:
            return self._bound(one)
        cost = self.cost(one.over) + self.cost(one.start)
        self._push(one.accumulator, _Local(self._path(one.start), self._known_size(one.start), self._entry(one.start)))
        for index, name in enumerate(one.names):
            self._push(name, self._variable(one, index))
        each = self.cost(one.condition) + self.cost(one.step)
        for name in one.names:
            self._locals[name].pop()
        cost += self.cost(one.result)
        self._locals[one.accumulator].pop()
        times = self._size(one.over)
        if isinstance(one.start, Literal):
            self._sizes[one.id] = self._size(one.start)
        elif isinstance(one.start, ListOf | MapOf):
            self._sizes[one.id] = times
            entry = self._entry(one.step)
            if entry is not None:
                self._entries[one.id] = entry
        return cost + times * each

    def _variable(self, one: Loop, index: int) -> _Local:
        entry, two = self._entry(one.over), len(one.names) == 2
        is_list = (entry.kind if entry else self._type(one.over).kind) == "list"
        is_key = index == 0 and (two or not is_list)
        size = (entry.key if is_key else entry.value) if entry else None
        part = ("@indices" if is_list else "@keys") if is_key else ("@items" if is_list else "@values")
        return _Local((*self._path(one.over), part), size)

    def _bound(self, one: Loop) -> Range:
        """A loop that only gives a value a name."""
        cost = self.cost(one.over) + self.cost(one.start)
        self._push(one.accumulator, _Local(self._path(one.start), self._known_size(one.start), self._entry(one.start)))
        cost += self.cost(one.result)
        self._locals[one.accumulator].pop()
        self._copy(one, one.result)
        return cost

    def _push(self, name: str, local: _Local) -> None:
        self._locals.setdefault(name, []).append(local)

    def _copy(self, to: Expr, source: Expr) -> None:
        size, entry = self._known_size(source), self._entry(source)
        if size is not None:
            self._sizes[to.id] = size
        if entry is not None:
            self._entries[to.id] = entry

    # --- calls

    def _call(self, one: Call) -> Range:
        if one.function == "dyn" and len(one.args) == 1:
            cost = self.cost(one.args[0]) + ONE
            self._copy(one, one.args[0])
            return cost
        costs = [self.cost(arg) for arg in one.args]
        args = [self._node(arg) for arg in one.args]
        overloads = self._checked.overloads.get(one.id, ())
        target: Node | None = None
        cost = NOTHING
        if one.target is not None:
            cost = self.cost(one.target)
            target = self._node(one.target)
        if not overloads:
            return NOTHING
        called, size = Range(MOST, 0), None
        for overload in overloads:
            found, result = self._function(one, overload, target, args, costs)
            called |= found
            if result is not None:
                size = result if size is None else size | result
            size = self._indexed(one, overload, args, size)
            size = self._known_size(one) if size is None else size
        if size is not None:
            self._sizes[one.id] = size
        return cost + called

    def _indexed(self, one: Call, overload: Overload, args: list[Node], size: Range | None) -> Range | None:
        """The size of what an index finds."""
        over = overload.parameters[0] if overload.parameters else None
        if one.function != "_[_]" or over is None or over.kind not in ("list", "map"):
            return size
        entry = self._entry(args[0].expr)
        self._paths[one.id] = (*self._path(args[0].expr), "@items" if over.kind == "list" else "@values")
        return entry.value if entry else None

    def _function(
        self, one: Call, overload: Overload, target: Node | None, args: list[Node], costs: list[Range]
    ) -> Estimate:
        given = sum(costs, NOTHING)
        own = CHARGES.get(one.function)
        found = own(overload, target, args) if own else None
        if found is not None:
            return found[0] + given, found[1]
        if one.function in ("_&&_", "_||_"):
            return Range(costs[0].least, (costs[0] + costs[1]).most), None
        if one.function == "_?_:_":
            self._merge(one, args[1], args[2])
            return costs[0] + (costs[1] | costs[2]), args[1].size | args[2].size
        kind = overload.parameters[0].kind if overload.parameters else ""
        if one.function == "_+_" and kind in ("string", "bytes", "list"):
            self._merge(one, args[0], args[1])
            size = args[0].size + args[1].size
            return (ONE if kind == "list" else size.times(TEXT)) + given, size
        if one.function in ("_==_", "_!=_") or (one.function in _ORDER and kind in ("string", "bytes")):
            most = min(args[0].size.most, args[1].size.most)
            return Range(1 if most else 0, most).times(TEXT) + given, None
        return ONE + given, None

    def _merge(self, one: Call, left: Node, right: Node) -> None:
        first, second = self._entry(left.expr), self._entry(right.expr)
        if first and second:
            self._entries[one.id] = _Entry(first.kind, first.key | second.key, first.value | second.value)
