"""Macros that the parser leaves as calls: comprehensions over two variables, and `sortBy`."""

from __future__ import annotations

from itertools import count

from model_sandbox.cel.syntax import Call, Expr, Ident, ListOf, Literal, Loop, MapOf, Parsed, Select, SyntaxProblem

ACCUMULATOR = "@result"
INSERT = "cel.@mapInsert"
_SORTED = "@__sortBy_input__"
_TWO = {"all": (3,), "exists": (3,), "existsOne": (3,), "exists_one": (3,)}
_TRANSFORMS = dict.fromkeys(("transformList", "transformMap", "transformMapEntry"), (3, 4))


def expand(parsed: Parsed) -> Parsed:
    """The expression with every macro expanded; raises SyntaxProblem."""
    return Parsed(parsed.text, _Expansion(parsed).visit(parsed.root), parsed.positions)


class _Expansion:
    def __init__(self, parsed: Parsed) -> None:
        self._parsed = parsed
        self._ids = count(max(parsed.positions, default=0) + 1)
        self._at = 0

    def visit(self, one: Expr) -> Expr:
        if isinstance(one, Select):
            one.operand = self.visit(one.operand)
        elif isinstance(one, ListOf):
            one.items = [self.visit(item) for item in one.items]
        elif isinstance(one, MapOf):
            one.entries = [(self.visit(key), self.visit(value), optional) for key, value, optional in one.entries]
        elif isinstance(one, Loop):
            for name in ("over", "start", "condition", "step", "result"):
                setattr(one, name, self.visit(getattr(one, name)))
        elif isinstance(one, Call):
            one.args = [self.visit(arg) for arg in one.args]
            if one.target is not None:
                one.target = self.visit(one.target)
                return self._macro(one, one.target)
        return one

    def _macro(self, call: Call, target: Expr) -> Expr:
        self._at = self._parsed.positions.get(call.id, 0)
        if call.function == "sortBy" and len(call.args) == 2:
            return self._sort(call, target)
        if len(call.args) not in {**_TWO, **_TRANSFORMS}.get(call.function, ()):
            return call
        names = tuple(self._name(arg) for arg in call.args[:2])
        if names[0] == names[1]:
            self._fail(call.args[1], f"duplicate variable name: {names[0]}")
        start, condition, step, result = self._parts(call.function, names[0], call.args[2:])
        return Loop(call.id, target, names, ACCUMULATOR, start, condition, step, result)

    def _parts(self, function: str, key: str, args: list[Expr]) -> tuple[Expr, Expr, Expr, Expr]:
        """Start, condition, step and result of a comprehension."""
        so_far, always = self._ident(ACCUMULATOR), self._literal(True, "bool")
        if function in ("all", "exists"):
            every = function == "all"
            tested = so_far if every else self._call("!_", so_far)
            step = self._call("_&&_" if every else "_||_", self._ident(ACCUMULATOR), args[0])
            going = self._call("@not_strictly_false", tested)
            return self._literal(every, "bool"), going, step, self._ident(ACCUMULATOR)
        one = self._literal(1, "int")
        if function in ("existsOne", "exists_one"):
            step = self._call("_?_:_", args[0], self._call("_+_", so_far, one), self._ident(ACCUMULATOR))
            result = self._call("_==_", self._ident(ACCUMULATOR), self._literal(1, "int"))
            return self._literal(0, "int"), always, step, result
        start: Expr = MapOf(self._node(), [])
        if function == "transformList":
            start, step = ListOf(self._node(), []), self._call("_+_", so_far, ListOf(self._node(), args[-1:]))
        elif function == "transformMap":
            step = self._call(INSERT, so_far, self._ident(key), args[-1])
        else:
            step = self._call(INSERT, so_far, args[-1])
        if len(args) == 2:
            step = self._call("_?_:_", args[0], step, self._ident(ACCUMULATOR))
        return start, always, step, self._ident(ACCUMULATOR)

    def _sort(self, call: Call, target: Expr) -> Expr:
        name = self._name(call.args[0], "argument is not an identifier")
        step = self._call("_+_", self._ident(ACCUMULATOR), ListOf(self._node(), call.args[1:]))
        always, ended = self._literal(True, "bool"), self._ident(ACCUMULATOR)
        empty = ListOf(self._node(), [])
        keys = Loop(self._node(), self._ident(_SORTED), (name,), ACCUMULATOR, empty, always, step, ended)
        result = Call(self._node(), "@sortByAssociatedKeys", [keys], self._ident(_SORTED))
        never, nothing = self._literal(False, "bool"), ListOf(self._node(), [])
        return Loop(call.id, nothing, ("#unused",), _SORTED, target, never, self._ident(_SORTED), result)

    def _name(self, arg: Expr, why: str = "argument must be a simple name") -> str:
        if isinstance(arg, Ident):
            return arg.name
        return self._fail(arg, why)

    def _fail(self, at: Expr, why: str) -> str:
        raise SyntaxProblem(self._parsed.report([(at.id, why)]))

    def _node(self) -> int:
        node = next(self._ids)
        self._parsed.positions[node] = self._at
        return node

    def _ident(self, name: str) -> Ident:
        return Ident(self._node(), name)

    def _literal(self, value: bool | int, type_name: str) -> Literal:
        return Literal(self._node(), value, type_name)

    def _call(self, function: str, *args: Expr) -> Call:
        return Call(self._node(), function, list(args))
