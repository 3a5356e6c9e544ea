"""The type checker: what type an expression has, and everything that is wrong with it.

Follows cel-go, whose messages the API server passes on. `literals.py` checks the texts in a well-typed expression.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from model_sandbox.cel.declarations import TYPE_NAMES, Overload, functions
from model_sandbox.cel.declared import RESERVED
from model_sandbox.cel.macros import expand
from model_sandbox.cel.syntax import (
    Call,
    Expr,
    Ident,
    ListOf,
    Literal,
    Loop,
    MapOf,
    Parsed,
    Select,
    Struct,
    parse,
)
from model_sandbox.cel.types import (
    BOOL,
    DYN,
    ERROR,
    INT,
    Type,
    Unifier,
    instantiate,
    is_dyn_or_error,
    list_of,
    map_of,
    most_general,
    optional_of,
    simple,
    unwrapped,
)

Fields = Mapping[str, Mapping[str, Type]]  # of object types, by the type's name


@dataclass
class Checked:
    """An expression with the type of each node and the overloads of each call."""

    parsed: Parsed
    types: dict[int, Type] = field(default_factory=dict)
    overloads: dict[int, list[Overload]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)  # variables that it uses
    problems: list[tuple[int, str]] = field(default_factory=list)  # node and message

    @property
    def type(self) -> Type:
        """The type of the whole expression."""
        return self.types[self.parsed.root.id]

    @property
    def report(self) -> str:
        """The problems as the API server writes them; empty without any."""
        return self.parsed.report(self.problems)


def check(text: str, variables: Mapping[str, Type], fields: Fields) -> Checked:
    """Check an expression; raises SyntaxProblem for text that is not CEL."""
    parsed = expand(parse(text))
    checker = _Checker(parsed, variables, fields)
    checker.check(parsed.root)
    checked = checker.checked
    checked.types = {node: checker.unifier.substitute(one, to_dyn=True) for node, one in checked.types.items()}
    return checked


class _Checker:
    def __init__(self, parsed: Parsed, variables: Mapping[str, Type], fields: Fields) -> None:
        self.checked = Checked(parsed)
        self.unifier = Unifier()
        self._scopes: list[Mapping[str, Type]] = [variables]
        self._fields = fields

    def check(self, one: Expr) -> Type:
        """Check a node and what is in it; the answer is its type."""
        found = self._typed(one)
        self.checked.types[one.id] = found
        return found

    def _typed(self, one: Expr) -> Type:
        if isinstance(one, Literal):
            return simple(one.type_name)
        if isinstance(one, Ident):
            return self._ident(one, one.name) or self._wrong(one, _undeclared(one.name))
        if isinstance(one, Select):
            return self._select(one)
        if isinstance(one, Call):
            return self._call(one)
        if isinstance(one, ListOf):
            return self._list(one)
        if isinstance(one, MapOf):
            return self._map(one)
        if isinstance(one, Struct):
            self.checked.parsed.positions[one.id] += len(one.name)  # the brace
            return self._wrong(one, _undeclared(one.name))
        return self._loop(one)

    def _wrong(self, one: Expr, message: str) -> Type:
        self.checked.problems.append((one.id, message))
        return ERROR

    def _mismatch(self, one: Expr, wanted: Type, found: Type) -> Type:
        return self._wrong(one, f"expected type '{wanted}' but found '{found}'")

    def _resolve(self, one: Type) -> Type:
        return self.unifier.substitute(one)

    def _ident(self, one: Expr, name: str) -> Type | None:
        name = name.removeprefix(".")
        for scope in reversed(self._scopes):
            if name in scope:
                if scope is self._scopes[0]:
                    self.checked.names.add(name)
                return scope[name]
        return TYPE_NAMES.get(name)

    # --- fields

    def _select(self, one: Select) -> Type:
        qualified = "" if one.test else _qualified(one)
        found = self._ident(one, qualified) if qualified in TYPE_NAMES else None
        if found is not None:
            return found
        found = self._field(one, one.operand, one.name)
        return BOOL if one.test else self._resolve(found)

    def _field(self, one: Expr, operand: Expr, name: str, *, optional: bool = False) -> Type:
        target, was = unwrapped(self._resolve(self.check(operand)))
        result = DYN
        if target.kind == "map":
            result = target.parameters[1]
        elif target.kind == "object":
            result = self._member(one, target, name)
        elif target.kind == "param":
            self.unifier.assign([(DYN, target)])
        elif not is_dyn_or_error(target):
            self._wrong(one, f"type '{target}' does not support field selection")
        return optional_of(result) if was or optional else result

    def _member(self, one: Expr, target: Type, name: str) -> Type:
        if target.name not in self._fields:  # one of Kubernetes' own types
            return self._wrong(one, f"unexpected failed resolution of '{target.name}'")
        known = self._fields[target.name]
        found = known.get(name) or known.get(f"__{name}__" if name in RESERVED else "")
        return self._wrong(one, f"undefined field '{name}'") if found is None else found

    # --- calls

    def _call(self, one: Call) -> Type:
        if one.function == "_?._":
            operand, name = one.args
            self.check(name)
            self.checked.overloads[one.id] = functions()[one.function]
            assert isinstance(name, Literal)  # noqa: S101 - the grammar has no other
            return self._resolve(self._field(one, operand, str(name.value), optional=True))
        for arg in one.args:
            self.check(arg)
        known = functions()
        if one.target is not None:
            prefix = _qualified(one.target)
            if f"{prefix}.{one.function}" in known:
                one.function, one.target = f"{prefix}.{one.function}", None
            else:
                self.check(one.target)
        if one.function not in known:
            return self._wrong(one, _undeclared(one.function))
        return self._overload(one)

    def _overload(self, one: Call) -> Type:
        nodes = [*([one.target] if one.target else []), *one.args]
        given = [self.checked.types[node.id] for node in nodes]
        if one.function in ("_&&_", "_||_"):
            return self._logical(one, given)
        result: Type | None = None
        for overload in functions()[one.function]:
            if overload.is_method != (one.target is not None):
                continue
            fresh = {name: self.unifier.fresh() for name in overload.type_parameters}
            *wanted, answer = instantiate([*overload.parameters, overload.result], fresh)
            if len(wanted) != len(given) or not self.unifier.assign(zip(given, wanted, strict=True)):
                continue
            self.checked.overloads.setdefault(one.id, []).append(overload)
            answer = self._resolve(answer)
            if result is None:
                result = answer
            elif result.kind != "dyn" and answer != result:
                result = DYN
        if result is None:
            shown = [str(self.unifier.substitute(part, to_dyn=True)) for part in given]
            receiver = f"{shown.pop(0)}." if one.target else ""
            applied = f"{receiver}({', '.join(shown)})"
            return self._wrong(one, f"found no matching overload for '{one.function}' applied to '{applied}'")
        return result

    def _logical(self, one: Call, given: list[Type]) -> Type:
        wrong = False
        for arg, found in zip(one.args, given, strict=True):
            if not self.unifier.assign([(found, BOOL)]):
                self._mismatch(arg, BOOL, found)
                wrong = True
        self.checked.overloads[one.id] = functions()[one.function]
        return ERROR if wrong else BOOL

    # --- literals and loops

    def _list(self, one: ListOf) -> Type:
        joined: Type | None = None
        for index, item in enumerate(one.items):
            found = self._held(item, self.check(item), optional=index in one.optional)
            joined = self._join(joined, found)
        return list_of(joined or self.unifier.fresh())

    def _map(self, one: MapOf) -> Type:
        keys: Type | None = None
        values: Type | None = None
        for key, value, optional in one.entries:
            keys = self._join(keys, self.check(key))
            values = self._join(values, self._held(value, self.check(value), optional=optional))
        return map_of(keys or self.unifier.fresh(), values or self.unifier.fresh())

    def _held(self, one: Expr, found: Type, *, optional: bool) -> Type:
        held, was = unwrapped(found) if optional else (found, False)
        if optional and not was and held.kind != "dyn":
            self._mismatch(one, optional_of(held), held)
        return held

    def _join(self, before: Type | None, found: Type) -> Type:
        if before is None:
            return found
        return most_general(before, found) if self.unifier.assign([(before, found)]) else DYN

    def _loop(self, one: Loop) -> Type:
        self.check(one.over)
        start = self.check(one.start)
        over = self._resolve(self.checked.types[one.over.id])
        kinds: tuple[Type, ...] = (DYN, DYN)
        if over.kind == "list":
            kinds = (INT, over.parameters[0]) if len(one.names) == 2 else over.parameters
        elif over.kind == "map":
            kinds = over.parameters
        elif over.kind == "param":
            self.unifier.assign([(DYN, over)])
        elif not is_dyn_or_error(over):
            why = "cannot be range of a comprehension (must be list, map, or dynamic)"
            self._wrong(one.over, f"expression of type '{over}' {why}")
            kinds = (ERROR, ERROR)
        self._scopes.append({one.accumulator: start})
        self._scopes.append(dict(zip(one.names, kinds, strict=False)))
        for part, wanted in ((one.condition, BOOL), (one.step, start)):
            found = self.check(part)
            if not self.unifier.assign([(wanted, found)]):
                self._mismatch(part, wanted, found)
        self._scopes.pop()
        result = self._resolve(self.check(one.result))
        self._scopes.pop()
        return result


def _undeclared(name: str) -> str:
    return f"undeclared reference to '{name}' (in container '')"


def _qualified(one: Expr) -> str:
    """`a.b.c` for selections of an identifier; empty for anything else."""
    if isinstance(one, Ident):
        return one.name
    if isinstance(one, Select) and not one.test:
        prefix = _qualified(one.operand)
        return f"{prefix}.{one.name}" if prefix else ""
    return ""
