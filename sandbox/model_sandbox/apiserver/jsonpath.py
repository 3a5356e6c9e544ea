"""The JSONPath of printer columns: `.spec.x`, `['a.b']`, `[0]`, `[*]`, `[?(@.type=="Ready")].status`."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from operator import eq, ge, gt, le, lt, ne
from typing import Any

_STEP = re.compile(
    r"""\.?(?P<name>[A-Za-z_$][\w\-/]*(?:\\\.[\w\-/]+)*)"""
    r"""|\.?\*|\[\*\](?P<all>)|\[(?P<index>-?\d+)\]|\[(?P<quote>['"])(?P<key>.*?)(?P=quote)\]"""
    r"""|\[\?\(@\.(?P<left>[\w.\-/]+)\s*(?:(?P<op>==|!=|<=|>=|<|>)\s*(?P<right>"[^"]*"|'[^']*'|[\w.\-]+))?\)\]"""
)


_OPERATORS = {"==": eq, "!=": ne, "<": lt, ">": gt, "<=": le, ">=": ge}


@lru_cache(maxsize=1024)
def parse(path: str) -> tuple[re.Match[str], ...]:
    """The steps of a path. Raises ValueError for a form that is not known."""
    text = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    steps, at = [], 0
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None or match.end() == at:
            raise ValueError(f"{path!r}: cannot read {text[at:]!r}")
        steps.append(match)
        at = match.end()
    return tuple(steps)


def find(path: str, value: Any) -> list[Any]:
    """Everything that a path selects."""
    found = [value]
    for step in parse(path):
        found = [result for item in found for result in _follow(step, item)]
    return found


def _follow(step: re.Match[str], item: Any) -> list[Any]:
    name = step["name"] if step["name"] is not None else step["key"]
    if name is not None:
        name = name.replace("\\.", ".")
        return [item[name]] if isinstance(item, dict) and name in item else []
    if step["index"] is not None:
        index = int(step["index"])
        return [item[index]] if isinstance(item, list) and -len(item) <= index < len(item) else []
    if step["left"] is not None:
        return [one for one in item if _holds(step, one)] if isinstance(item, list) else []
    if isinstance(item, dict):
        return list(item.values())
    return list(item) if isinstance(item, list) else []


def _holds(step: re.Match[str], item: Any) -> bool:
    found, right = find("." + step["left"], item), step["right"]
    if not found or step["op"] is None:
        return bool(found)
    try:
        return bool(_OPERATORS[step["op"]](found[0], right[1:-1] if right[0] in "\"'" else json.loads(right)))
    except TypeError:
        return False
