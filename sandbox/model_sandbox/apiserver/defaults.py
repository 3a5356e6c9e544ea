"""Fills in what an object leaves out."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

from model_sandbox.apiserver.cel import Expression
from model_sandbox.apiserver.errors import Obj
from model_sandbox.apiserver.schema import NESTED, Node, Shape


@cache
def _computed(text: str, strict: bool) -> Expression:
    return Expression(text.removeprefix("="), Node(Shape.ANY, strict=strict))


def apply_defaults(node: Node, value: Any) -> Any:
    """The value with absent fields filled in (the value itself is not changed)."""
    if node.shape is Shape.OBJECT and isinstance(value, dict):
        result = dict(value)
        for name, default in node.values.items():
            _fill(result, name, default, node.strict)
        for name, item in result.items():
            sub = node.fields.get(name)
            if sub is not None and sub.shape in NESTED:
                result[name] = apply_defaults(sub, item)
        return result
    if node.items is None or node.items.shape not in NESTED:
        return value
    if node.shape is Shape.MAP and isinstance(value, dict):
        return {key: apply_defaults(node.items, item) for key, item in value.items()}
    if node.shape is Shape.LIST and isinstance(value, list):
        return [apply_defaults(node.items, item) for item in value]
    return value


def _fill(result: Obj, name: str, default: Any, strict: bool) -> None:
    absent = name not in result or (strict and result[name] == "")
    if strict and isinstance(default, str) and default.startswith("="):
        if absent:
            try:
                filled = _computed(default, strict).evaluate({"self": result, "members": list(result)})
            except Exception:  # what it is computed from is absent too
                return
            if filled is not None:
                result[name] = copy.deepcopy(filled)
    elif absent:
        result[name] = copy.deepcopy(default)
    elif strict and isinstance(default, dict) and isinstance(result[name], dict):
        result[name] = {**copy.deepcopy(default), **result[name]}
