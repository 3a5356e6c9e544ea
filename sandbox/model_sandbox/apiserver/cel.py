"""Expressions in CEL: the rules of CustomResourceDefinitions, and those of built-in types in `data/rules.yaml`.

The language is a library's; the functions that Kubernetes adds to it are here. Types are checked elsewhere, in
`model_sandbox.cel`, when a definition is written. Of an object an expression gets only what it names, since to hand an
object over costs more than to evaluate.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import orjson

from model_sandbox.apiserver.errors import Cause, Obj, go_value
from model_sandbox.apiserver.functions import FORMATS, FUNCTIONS, NATIVE, OWN
from model_sandbox.apiserver.schema import Node, Shape

_KEPT_RESULTS, _KEPT_BYTES = 1024, 1024
_TEXTS = re.compile(r"r?'(?:[^'\\]|\\.)*'|r?\"(?:[^\"\\]|\\.)*\"")
_BOUND = re.compile(
    r"\.(?:all|exists|exists_one|existsOne|filter|map|transformList|transformMap)\(\s*(\w+)\s*,(?:\s*(\w+)\s*,)?"
)
_TYPES = frozenset(("int", "string", "double", "bool", "list", "map", "uint", "bytes", "null_type", "type"))
_PACKAGES = frozenset(("math", "strings", "sets", "base64", "lists", "optional"))  # of functions
# Words of CEL that a property may share; Kubernetes writes such a property as __name__ in rules.
_RESERVED = re.compile(
    "true|false|null|in|as|break|const|continue|else|for|function|if|import|let|loop|package|namespace|return|var|void|while"
)
_ESCAPES = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__"))
_WORDS = {
    "FieldValueInvalid": "Invalid value",
    "FieldValueForbidden": "Forbidden",
    "FieldValueRequired": "Required value",
    "FieldValueDuplicate": "Duplicate value",
    "FieldValueNotFound": "Not found",
    "FieldValueNotSupported": "Unsupported value",
}


_SHOWN = ("FieldValueInvalid", "FieldValueNotFound", "FieldValueNotSupported")  # whose causes show the value


class CompileError(Exception):
    """A rule that is not CEL, or calls what the library that evaluates it does not have."""


def _undeclared(name: str) -> CompileError:
    return CompileError(f"undeclared reference to '{name}'")


@cache
def _library() -> ModuleType:
    """The CEL library without its command line, which takes half a second to load and is not needed."""
    spec = find_spec("cel")
    if "cel" not in sys.modules and spec is not None and spec.submodule_search_locations is not None:
        bare = sys.modules["cel"] = ModuleType("cel")
        bare.__path__ = list(spec.submodule_search_locations)
    return import_module("cel.cel")


@cache
def _context() -> Any:
    """The functions; variables are set anew for each evaluation."""
    context = _library().Context()
    import_module("cel.stdlib").add_stdlib_to_context(context)
    for name, function in {**FUNCTIONS, **OWN}.items():
        context.add_function(name, function)
    return context


@cache
def _added() -> frozenset[str]:
    """The functions that were added to those of the language, without those for built-in types alone."""
    libraries = import_module("cel.stdlib").EXTENSIONS.values()
    return frozenset(name.rpartition(".")[2] for one in libraries for name in one).union(FUNCTIONS)


class Expression:
    """A compiled expression; raises CompileError. `node` is the schema of `self` and (perhaps `optional`) `oldSelf`."""

    def __init__(self, text: str, node: Node, *, optional: bool = False) -> None:
        self._optional = optional
        self._node = node if _is_formatted(node) else None
        try:
            self._program = _library().compile(text)
        except ValueError as error:
            raise CompileError(str(error)) from None
        plain = _TEXTS.sub("''", text)
        bound = {name for match in _BOUND.finditer(plain) for name in match.groups() if name}
        self.names = set(self._program.variables()) - _TYPES - _PACKAGES - bound
        if not node.strict:
            for name in self.names - {"self", "oldSelf"}:
                raise _undeclared(name)
            for name in filter(str.isidentifier, self._program.functions()):
                if name not in _added() and not NATIVE.fullmatch(name):
                    raise _undeclared(name)
        self._escaped = "__" in text
        self._results: dict[bytes, Any] = {}  # objects are alike, and what an expression sees of them is often the same
        self._wanted: dict[str, Any] = {}
        for name in self.names:
            self._wanted[name] = _tree(list(_chains(plain, name)))

    def seen(self, name: str, value: Any) -> Any:
        """What the expression sees of a value that it calls `name`."""
        return _cut(value, self._wanted.get(name), self._escaped)

    def evaluate(self, variables: Mapping[str, Any]) -> Any:
        """The expression's value. Raises whatever the library does, as a rule ValueError or RuntimeError."""
        seen = {name: self.seen(name, variables[name]) for name in self.names}
        key = orjson.dumps(seen)
        if key in self._results:
            return self._results[key]
        context = _context()
        for name, value in seen.items():
            if self._node is not None:
                value = _typed(value, self._node)
            if self._optional and name == "oldSelf":
                value = _library().OptionalValue.none() if value is None else _library().OptionalValue.of(value)
            context.add_variable(name, value)
        result = self._program.execute(context)
        if len(self._results) >= _KEPT_RESULTS:
            self._results.clear()
        if len(key) <= _KEPT_BYTES:
            self._results[key] = result
        return result


def _chains(text: str, name: str) -> Iterator[list[str]]:
    """The fields that follow a variable: `["a", "b"]` for `self.a.b.size()`.

    `[]` stands for the items of a list, as in `self.a.all(x, x.b)`, and `?` for a member's presence alone.
    """
    for match in re.finditer(rf"(?<![\w.])(has\(\s*)?{name}\b((?:\.\w+)*)\s*(\(?)", text):
        names = match[2].split(".")[1:]
        if match[1] and names:
            yield [*names, "?"]
            continue
        bound = _BOUND.match(text, match.end() - len(names[-1]) - 2) if match[3] and names else None
        if bound and not bound[2] and bound[1] != name:
            used = _chains(_BOUND.sub(".call(", text), bound[1])
            yield from ([*names[:-1], "[]", *chain] for chain in used)
        else:
            yield names[:-1] if match[3] else names


def _tree(chains: list[list[str]]) -> Any:
    """Chains as a tree of names; an empty one stands for a whole value."""
    if not all(chains):
        return {}
    heads = dict.fromkeys(chain[0] for chain in chains)
    return {head: _tree([chain[1:] for chain in chains if chain[0] == head]) for head in heads}


def _cut(value: Any, tree: Any, escaped: bool) -> Any:
    if tree and list(tree) == ["?"]:
        return True
    if isinstance(value, list) and tree and list(tree) == ["[]"]:
        return [_cut(item, tree["[]"], escaped) for item in value]
    if not tree or not isinstance(value, dict) or "[]" in tree:
        return _escape(value) if escaped else value
    named = ((name, _unescaped(name)) for name in tree if name != "?")
    return {name: _cut(value[held], tree[name], escaped) for name, held in named if held in value}


def _is_formatted(node: Node) -> bool:
    """Whether there are texts in a type that rules see as other values."""
    return not node.strict and (node.openapi.get("format") in FORMATS or any(map(_is_formatted, node.below)))


def _typed(value: Any, node: Node) -> Any:
    """What an expression sees, with times, durations and bytes in place of texts of these formats."""
    if isinstance(value, str) and node.shape is Shape.STRING:
        return FORMATS.get(node.openapi.get("format", ""), str)(value)
    if isinstance(value, list):
        return [_typed(item, node.item) for item in value]
    if isinstance(value, dict):
        below = ((name, item, node.child(_unescaped(name))) for name, item in value.items())
        return {name: item if sub is None else _typed(item, sub) for name, item, sub in below}
    return value


def _unescaped(name: str) -> str:
    """A property as the schema writes it, from how a rule does."""
    if name.startswith("__") and name.endswith("__") and _RESERVED.fullmatch(name[2:-2]):
        return name[2:-2]
    for plain, escaped in reversed(_ESCAPES):
        name = name.replace(escaped, plain)
    return name


def _escape(value: Any) -> Any:
    if isinstance(value, list):
        return [_escape(item) for item in value]
    if not isinstance(value, dict):
        return value
    result = {}
    for key, item in value.items():
        name = f"__{key}__" if _RESERVED.fullmatch(key) else key
        for plain, escaped in _ESCAPES if name == key else ():
            name = name.replace(plain, escaped)
        result[name] = _escape(item)
    return result


class Rule:
    """One entry of `x-kubernetes-validations`, compiled. Raises CompileError."""

    def __init__(self, source: Obj, node: Node) -> None:
        self._strict = node.strict
        self._text: str = source["rule"]
        self._reason = source.get("reason") or "FieldValueInvalid"
        if self._reason not in list(_WORDS)[: None if node.strict else 4]:
            raise CompileError(f"reason {self._reason} is not one of {', '.join(list(_WORDS)[:4])}")
        self._path: str = source.get("fieldPath", "")
        self._optional = bool(source.get("optionalOldSelf"))
        self._expression = Expression(self._text, node, optional=self._optional)
        self._named: str = source.get("message") or self._text
        self._message: str = source.get("message", "" if node.strict else f"failed rule: {self._text}")
        texts = (source.get(name) for name in ("messageExpression", "valueExpression"))
        self._computed, self._shown = (
            Expression(text, node, optional=self._optional) if text else None for text in texts
        )

    @cached_property
    def is_transition(self) -> bool:
        """Whether it compares with the old value, and so holds for whatever is new."""
        return "oldSelf" in self._expression.names

    def check(self, path: str, variables: Mapping[str, Any]) -> Cause | None:
        """What the rule has against `self`, which stands at `path`; `oldSelf` is None without an old value."""
        value, old = variables["self"], variables["oldSelf"]
        if self.is_transition and old is None and not self._optional:
            return None
        # What was there before and did not change is not judged again.
        seen = self._expression.seen
        if self._strict:
            unchanged = self.is_transition and seen("self", value) == seen("self", old)
        else:
            unchanged = not self.is_transition and old is not None and value == old
        if unchanged:
            return None
        try:
            held, told = self._expression.evaluate(variables), ""
        except Exception as error:
            held, told = False, self._message if self._strict else f"{error} evaluating rule: {self._named}"
        if held is True:
            return None
        told = told or self._tried(self._computed, variables, "") or self._message
        where = f"{path}{self._path}".lstrip(".") or "<nil>"
        shown = ""
        if self._strict and self._reason in _SHOWN:
            for name in filter(None, self._path.split(".")):
                value = value.get(name, "") if isinstance(value, dict) else ""
            shown = go_value(self._tried(self._shown, variables, value))
        elif self._reason == "FieldValueInvalid" and not isinstance(value, dict | list):
            shown = go_value(value)
        return Cause(self._reason, where, ": ".join(filter(None, (_WORDS[self._reason], shown, told))))

    def _tried(self, expression: Expression | None, variables: Mapping[str, Any], default: Any) -> Any:
        """What an expression says, or the default where there is none or it fails."""
        try:
            return default if expression is None else expression.evaluate(variables)
        except Exception:
            return default
