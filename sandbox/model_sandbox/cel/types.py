"""Types of CEL expressions and their unification, as in cel-go's checker."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Type:
    """A type: `kind` is int, list, object, param (a type parameter) and the like; `name` is what messages show."""

    kind: str
    name: str
    parameters: tuple[Type, ...] = ()

    def __str__(self) -> str:
        inner = ", ".join(map(str, self.parameters))
        return f"{self.name}({inner})" if inner else self.name


def simple(name: str) -> Type:
    """A type without parameters whose kind is its name."""
    return Type(name, name)


BOOL, BYTES, DOUBLE, INT, STRING, UINT, DYN = map(simple, ("bool", "bytes", "double", "int", "string", "uint", "dyn"))
DURATION, TIMESTAMP, NULL, ERROR = simple("duration"), simple("timestamp"), simple("null"), Type("error", "!error!")
_SIMPLE = {one.name: one for one in (BOOL, BYTES, DOUBLE, INT, STRING, UINT, DYN, DURATION, TIMESTAMP, NULL)}
_OPAQUE = ("net.IP", "net.CIDR", "optional_type")
_NULLABLE = ("opaque", "object", "duration", "timestamp")  # null may stand for a value of these
_PARAMETERIZED = ("opaque", "list", "map")
_TOKEN = re.compile(r"[\w.]+|[(),]")


def list_of(item: Type) -> Type:
    """A list type."""
    return Type("list", "list", (item,))


def map_of(key: Type, value: Type) -> Type:
    """A map type."""
    return Type("map", "map", (key, value))


def optional_of(value: Type) -> Type:
    """An optional type."""
    return Type("opaque", "optional_type", (value,))


def type_of(value: Type) -> Type:
    """The type of a type."""
    return Type("type", "type", (value,))


def unwrapped(one: Type) -> tuple[Type, bool]:
    """The type that an optional type holds, and whether it is one."""
    return (one.parameters[0], True) if one.name == "optional_type" and one.parameters else (one, False)


def parse_types(text: str) -> list[Type]:
    """Types as declarations write them: `list(A), optional(string)`. A capital letter is a type parameter."""
    tokens = _TOKEN.findall(text)
    found: list[Type] = []
    while tokens:
        if tokens[0] == ",":
            tokens.pop(0)
        else:
            found.append(_parse(tokens))
    return found


def _parse(tokens: list[str]) -> Type:
    name, parameters = tokens.pop(0), []
    if tokens[:1] == ["("]:
        tokens.pop(0)
        while tokens[0] != ")":
            if tokens[0] == ",":
                tokens.pop(0)
            parameters.append(_parse(tokens))
        tokens.pop(0)
    if name in _SIMPLE:
        return _SIMPLE[name]
    name = "optional_type" if name == "optional" else name
    if name in ("list", "map", "type"):
        return Type(name, name, tuple(parameters))
    if name in _OPAQUE:
        return Type("opaque", name, tuple(parameters))
    return Type("param" if len(name) == 1 else "object", name)


def is_dyn_or_error(one: Type) -> bool:
    """Whether anything may stand where this type stands."""
    return one.kind in ("dyn", "error")


@dataclass
class Unifier:
    """What type parameters stand for."""

    bound: dict[Type, Type] = field(default_factory=dict)
    _count: int = 0

    def fresh(self) -> Type:
        """A type parameter that nothing is known of."""
        self._count += 1
        return Type("param", f"_var{self._count - 1}")

    def substitute(self, one: Type, *, to_dyn: bool = False) -> Type:
        """The type with parameters replaced by what they stand for, and unbound ones perhaps by dyn."""
        if one in self.bound:
            return self.substitute(self.bound[one], to_dyn=to_dyn)
        if one.kind == "param":
            return DYN if to_dyn else one
        return Type(one.kind, one.name, tuple(self.substitute(inner, to_dyn=to_dyn) for inner in one.parameters))

    def assign(self, pairs: Iterable[tuple[Type, Type]]) -> bool:
        """Whether the first type of every pair may stand for the second; if so, what that binds is kept."""
        before = dict(self.bound)
        if all(self._assignable(left, right) for left, right in pairs):
            return True
        self.bound = before
        return False

    def _assignable(self, left: Type, right: Type) -> bool:
        if right.kind == "param":
            valid, had = self._stands_for(left, right)
            if valid or had:
                return valid
        if left.kind == "param":
            return self._stands_for(right, left)[0]
        if is_dyn_or_error(left) or is_dyn_or_error(right):
            return True
        if "null" in (left.kind, right.kind):
            other = right if left.kind == "null" else left
            return other.kind in ("null", *_NULLABLE)
        if left.kind == "type":
            return right.kind == "type"
        if left.kind in _PARAMETERIZED:
            alike = (left.kind, left.name, len(left.parameters)) == (right.kind, right.name, len(right.parameters))
            return alike and all(map(self._assignable, left.parameters, right.parameters))
        return left == right

    def _stands_for(self, one: Type, parameter: Type) -> tuple[bool, bool]:
        """Whether a type may stand for a parameter, and whether something did already."""
        if one == parameter:
            return True, True
        held = self.bound.get(parameter)
        if held is not None:
            if one == held:
                return True, True
            if not self._assignable(one, held):
                return False, True
            general = most_general(one, held)
            if not self._occurs(parameter, general):
                self.bound[parameter] = general
            return True, True
        if self._occurs(parameter, one):
            return False, False
        self.bound[parameter] = one
        return True, False

    def _occurs(self, parameter: Type, within: Type) -> bool:
        if parameter == within:
            return True
        if within.kind == "param":
            return within in self.bound and self._occurs(parameter, self.bound[within])
        return any(self._occurs(parameter, inner) for inner in within.parameters)


def most_general(left: Type, right: Type) -> Type:
    """The more general of two types that unify."""
    return left if _is_general(left, right) else right


def _is_general(left: Type, right: Type) -> bool:
    if left.kind in ("dyn", "param"):
        return True
    if right.kind in ("dyn", "param") or left.kind != right.kind:
        return False
    if left.kind in _PARAMETERIZED:
        alike = (left.name, len(left.parameters)) == (right.name, len(right.parameters))
        return alike and all(map(_is_general, left.parameters, right.parameters))
    return left.kind == "type" or left == right


def instantiate(types: Iterable[Type], fresh: Mapping[Type, Type]) -> list[Type]:
    """Declared types with their parameters replaced by fresh ones."""
    swap = Unifier(dict(fresh))
    return [swap.substitute(one) for one in types]
