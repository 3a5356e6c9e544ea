"""The reasons that the code of the operator can write, collected from its syntax trees.

Every reason passes through the constructor of one class (`EventDraft`, `Rollback`, `HistoryEntry` ...) or is in the
tuple of a condition. The expression there is followed to its texts: through variables, parameters and their callers,
returns of functions, constants and members of enums. An expression that leads to data, such as a reason that Kubernetes
gives, has to be in the table of `sources`; one that is in no table is an error, so that nothing is missed.
"""

import ast
import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import model_operator

_ROOT = Path(model_operator.__file__).parent
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, eq=False)
class Place:
    """A node of a module, with the function around it."""

    module: str
    function: Function | None
    node: ast.expr


@dataclass
class Program:
    """All modules of the operator, and what their expressions that lead to data stand for.

    Args:
        sources: by module and expression, as in `("policy.status.report", "str(status.phase)")`.
    """

    sources: Mapping[tuple[str, str], Iterable[str]]
    used: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.functions: dict[str, list[tuple[str, Function]]] = {}
        self.calls: dict[str, list[Place]] = {}
        self.tuples: list[Place] = []
        for path in sorted(_ROOT.rglob("*.py")):
            if path.name != "testing.py":
                parts = path.relative_to(_ROOT).with_suffix("").parts
                self._read(".".join(parts), ast.parse(path.read_text()), None)

    def _read(self, module: str, node: ast.AST, function: Function | None) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                self.functions.setdefault(child.name, []).append((module, child))
                self._read(module, child, child)
                continue
            if isinstance(child, ast.Call):
                self.calls.setdefault(_name(child.func), []).append(Place(module, function, child))
            if isinstance(child, ast.Return | ast.Yield) and isinstance(child.value, ast.Tuple):
                self.tuples.append(Place(module, function, child.value))
            self._read(module, child, function)

    def written(self, constructor: str, parameter: str, position: int = -1) -> set[str]:
        """Return the texts of one argument of all calls of a class or a function."""
        found: set[str] = set()
        for place in self.calls[constructor]:
            found |= self.texts(self.argument(place, parameter, position))
        return found

    def argument(self, place: Place, parameter: str, position: int = -1) -> Place:
        """Return the argument of a call, by keyword or by position."""
        call = place.node
        assert isinstance(call, ast.Call)
        for keyword in call.keywords:
            if keyword.arg == parameter:
                return Place(place.module, place.function, keyword.value)
        assert position >= 0, f"{place.module}: {ast.unparse(call)} has no {parameter}"
        return Place(place.module, place.function, call.args[position])

    def texts(self, place: Place) -> set[str]:
        """Return the texts that an expression can have.

        Raises:
            LookupError: it leads to data, and `sources` has no entry for it.
        """
        key = (place.module, ast.unparse(place.node))
        if key in self.sources:
            self.used.add(key)
            return set(self.sources[key])
        found: set[str] = set()
        for following in self._followed(place):
            found |= {following} if isinstance(following, str) else self.texts(following)
        return found

    def _followed(self, place: Place) -> Iterator["Place | str"]:
        module, function, node = place.module, place.function, place.node
        match node:
            case ast.Constant(value=None | ""):
                return  # no reason
            case ast.Constant(value=str(text)):
                yield text
            case ast.IfExp():
                yield from (Place(module, function, part) for part in (node.body, node.orelse))
            case ast.BoolOp():
                yield from (Place(module, function, part) for part in node.values)
            case ast.JoinedStr(values=[ast.Constant(value=str(head)), ast.FormattedValue() as tail]):
                yield from (head + text for text in self.texts(Place(module, function, tail.value)))
            case ast.Call(func=ast.Name(id="str")):
                yield Place(module, function, node.args[0])
            case ast.Call(func=ast.Name(id=name)) if name in self.functions:
                yield from self._returns(name)
            case ast.Starred():
                for returned in self._followed(Place(module, function, node.value)):
                    assert isinstance(returned, Place)
                    assert isinstance(returned.node, ast.Tuple)
                    yield Place(returned.module, returned.function, returned.node.elts[0])
            case ast.Name(id=name) if function and (assigned := list(_assigned(function, name))):
                yield from (Place(module, function, value) for value in assigned)
            case ast.Name(id=name) if function and name in _parameters(function):
                yield from self._passed(function, name)
            case ast.Name() | ast.Attribute():
                yield _constant(place)
            case _:
                raise LookupError(_missing(place))

    def _returns(self, name: str) -> Iterator[Place]:
        for module, function in self.functions[name]:
            for node in ast.walk(function):
                if isinstance(node, ast.Return) and node.value is not None:
                    yield Place(module, function, node.value)

    def _passed(self, function: Function, name: str) -> Iterator[Place]:
        position = _parameters(function).index(name)
        for place in self.calls[function.name]:
            yield self.argument(place, name, position)


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _parameters(function: Function) -> list[str]:
    return [one.arg for one in function.args.args if one.arg != "self"]


def _assigned(function: Function, name: str) -> Iterator[ast.expr]:
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            if isinstance(target, ast.Name) and target.id == name:
                yield node.value
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=True)
                yield from (value for one, value in pairs if isinstance(one, ast.Name) and one.id == name)


def _constant(place: Place) -> str:
    """Return the text of a constant of a module, or of a member of an enum there."""
    value: object = importlib.import_module(f"model_operator.{place.module}")
    try:
        for part in ast.unparse(place.node).split("."):
            value = getattr(value, part)
    except AttributeError:
        raise LookupError(_missing(place)) from None
    if not isinstance(value, str):
        raise LookupError(_missing(place))
    return str(value)


def _missing(place: Place) -> str:
    return f"{place.module}: {ast.unparse(place.node)} leads to data: say in sources what it may be"
