"""The built-in types: `data/kubernetes.types` and `data/rules.yaml` as schemas."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import yaml

from model_sandbox.apiserver.schema import RULES, Node, Shape

_SCALARS = {
    **dict.fromkeys(("int32", "int64", "byte"), Shape.INTEGER),
    **dict.fromkeys(("Time", "MicroTime"), Shape.TIME),
    **dict.fromkeys(("Raw",), Shape.ANY),
    "string": Shape.STRING,
    "float": Shape.NUMBER,
    "bool": Shape.BOOLEAN,
    "bytes": Shape.BYTES,
    "Quantity": Shape.QUANTITY,
    "IntOrString": Shape.INT_OR_STRING,
}


class Types:
    """The built-in types, built into nodes on first use. `guards` is `data/rules.yaml`."""

    def __init__(self, text: str, guards: Mapping[str, Mapping[str, Any]]) -> None:
        self._lines: dict[str, list[list[str]]] = {}
        self._packages: dict[str, str] = {}
        self._enums: dict[str, tuple[str, ...]] = {}
        self._built: dict[str, Node] = {}
        self._guards = guards
        current: list[list[str]] = []
        for line in filter(None, text.splitlines()):
            words = line.split()
            if line.startswith("enum "):
                self._enums[words[1]] = tuple(words[2:])
            elif line.startswith(" "):
                current.append(words)
            else:
                current = self._lines[words[0]] = []
                self._packages[words[0]] = words[1]

    def node(self, name: str) -> Node:
        """The schema of a named type. Raises KeyError for an unknown one."""
        found = self._built.get(name)
        if found is None:
            found = self._built[name] = Node(Shape.OBJECT, strict=True, type_name=name, go_type=self._packages[name])
            self._fill(found)
        return found

    def _fill(self, node: Node) -> None:
        values, limits, rules = (self._guards[part].get(node.type_name) for part in ("values", "limits", "rules"))
        for name, *words in self._lines[node.type_name]:
            if name == "<":
                embedded = self.node(words[1])
                node.fields.update(embedded.fields)
                node.spread = (*node.spread, _changed(embedded, number=int(words[0])))
            else:
                node.fields[name] = self._field(words)
        for name, limit in (limits or {}).items():
            node.fields[name].required |= limit.get("required", False)
            node.fields[name].openapi = limit
        if rules:
            node.openapi = {RULES: rules}
        node.values = {name: sub.default for name, sub in node.fields.items() if sub.has_default} | (values or {})
        for name, value in (values or {}).items():
            if not (isinstance(value, str) and value.startswith("=")):
                node.fields[name].default = value

    def _field(self, words: list[str]) -> Node:
        number, flag = re.fullmatch(r"(\d+)([!?]?)", words[0]).groups()  # type: ignore[union-attr]
        node = _changed(self._type(words[1]), number=int(number), emit=flag == "!", pointer=flag == "?")
        options = dict(word.partition("=")[::2] for word in words[2:])
        node.keys = tuple(options["map"].split(",")) if "map" in options else ()
        node.is_set, node.atomic, node.required = (name in options for name in ("set", "atomic", "required"))
        node.or_bool = "or-bool" in options
        node.merge, node.merge_key = "merge" in options, options.get("merge", "")
        if "default" in options:
            text = options["default"]
            node.default = int(text) if node.shape is Shape.INTEGER else {"true": True, "false": False}.get(text, text)
        return node

    def _type(self, name: str) -> Node:
        if name[0] in "[{":
            return Node(Shape.LIST if name[0] == "[" else Shape.MAP, items=self._type(name[1:-1]), strict=True)
        if name in _SCALARS:
            return Node(_SCALARS[name], strict=True, go_type=name, preserve=_SCALARS[name] is Shape.ANY)
        if name in self._enums:
            return Node(Shape.STRING, strict=True, go_type="string", enum=self._enums[name])
        return self.node(name)


def _changed(node: Node, **values: Any) -> Node:
    changed = copy.copy(node)
    for name, value in values.items():
        setattr(changed, name, value)
    return changed


def load_types() -> Types:
    """The built-in types that come with the package."""
    data = resources.files("model_sandbox") / "data"
    return Types((data / "kubernetes.types").read_text(), load_yaml("rules.yaml"))


def load_yaml(name: str) -> Any:
    """A file of the package's data."""
    text = (resources.files("model_sandbox") / "data" / name).read_text()
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
