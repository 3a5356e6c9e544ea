"""Sets of field paths, and values cut along them: the algebra under server-side apply.

A path is a tuple of elements as `fieldsV1` writes them: `f:name`, `k:{"name":"main"}`, `v:"x"`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from model_sandbox.apiserver.errors import Obj
from model_sandbox.apiserver.schema import ANY, Node, Shape

Path = tuple[str, ...]


class ListKeyError(Exception):
    """A list map with a missing or repeated key; the text is Kubernetes' own."""


def parse_fields(fields: Obj, prefix: Path = ()) -> set[Path]:
    """The set written as `fieldsV1`."""
    found: set[Path] = set()
    for element, sub in fields.items():
        if element == ".":
            found.add(prefix)
        elif sub:
            found |= parse_fields(sub, (*prefix, element))
        else:
            found.add((*prefix, element))
    return found


def format_fields(paths: Iterable[Path]) -> Obj:
    """A set as `fieldsV1`."""
    tree: Obj = {}
    members = set(paths)
    for path in sorted(members):
        at = tree
        for depth, element in enumerate(path, start=1):
            if not at and depth > 1 and path[: depth - 1] in members:
                at["."] = {}
            at = at.setdefault(element, {})
    return tree


def show(path: Path) -> str:
    """A path as messages write it: `.spec.containers[name="main"].image`."""
    text = ""
    for element in path:
        kind, _, rest = element.partition(":")
        if kind == "f":
            text += f".{rest}"
        elif kind == "k":
            keys = ",".join(f"{key}={json.dumps(value)}" for key, value in sorted(json.loads(rest).items()))
            text += f"[{keys}]"
        else:
            text += f"[={rest}]"
    return text


def element_of(node: Node, item: Any, *, where: str = "") -> str:
    """The path element of an item of a list map or set."""
    if node.is_set:
        return f"v:{json.dumps(item)}"
    keys: Obj = {}
    for key in sorted(node.keys):
        sub = node.item.fields.get(key)
        if isinstance(item, dict) and key in item:
            keys[key] = item[key]
        elif sub is not None and sub.has_default:
            keys[key] = sub.default
    if not keys or not isinstance(item, dict) or not any(key in item for key in node.keys):
        names = " ".join(f'"{key}"' for key in node.keys)
        raise ListKeyError(
            f"{where}associative list with keys has an element that omits all key fields [{names}] "
            "(and doesn't have default values for any key fields)"
        )
    return f"k:{json.dumps(keys, separators=(',', ':'))}"


def keyed(node: Node, items: list[Any], path: Path = (), *, check: bool = False) -> dict[str, Any]:
    """The items of a list map or set by element. With `check`, a repeated key raises ListKeyError."""
    found: dict[str, Any] = {}
    for index, item in enumerate(items):
        element = element_of(node, item, where=f"{show(path)}: element {index}: " if check else "")
        if check and element in found:
            raise ListKeyError(f"{show(path)}: duplicate entries for key {show((element,))}")
        found.setdefault(element, item)
    return found


_GRANULAR = (Shape.OBJECT, Shape.MAP, Shape.ANY)
Members = dict[str, tuple[Node, Any]]


def members(node: Node, value: Any, path: Path = (), *, check: bool = False) -> Members | None:
    """What has owners of its own within a value, by path element, with its schema; None for a value owned whole."""
    if node.atomic:
        return None
    if isinstance(value, dict) and node.shape in _GRANULAR:
        return {f"f:{name}": (node.child(name) or ANY, item) for name, item in value.items()}
    if isinstance(value, list) and node.shape is Shape.LIST and (node.keys or node.is_set):
        sub = ANY if node.is_set else node.item
        return {element: (sub, item) for element, item in keyed(node, value, path, check=check).items()}
    return None


def paths_of(node: Node, value: Any, path: Path = (), *, check: bool = False) -> set[Path]:
    """Every path that a value sets: what an applied configuration owns."""
    within = members(node, value, path, check=check)
    if within is None:
        return {path} if path else set()
    found: set[Path] = set()
    for element, (sub, item) in within.items():
        below = (*path, element)
        found |= paths_of(sub, item, below, check=check)
        declared = node.shape is Shape.OBJECT or element[2:] in node.fields
        if item is None or item == {} or not declared:  # items of lists, and members of maps
            found.add(below)
    return found


def with_named(paths: Iterable[Path], root: Node) -> set[Path]:
    """The set with the declared fields that lie above its paths (maps' keys and list items are not added)."""
    found: set[Path] = set()
    for path in paths:
        found.add(path)
        node: Node | None = root
        for depth, element in enumerate(path[:-1], start=1):
            name = element[2:]
            if node is not None and element.startswith("f:"):
                if node.shape is Shape.OBJECT and name in node.fields:
                    found.add(path[:depth])
                node = node.child(name)
            else:
                node = node.item if node is not None else None
    return found


def remove(node: Node, value: Any, paths: set[Path]) -> Any:
    """The value without everything at or below the paths."""
    within = members(node, value) if paths else None
    if within is None:
        return value
    below: dict[str, set[Path]] = {}
    for path in filter(None, paths):
        below.setdefault(path[0], set()).add(path[1:])
    kept = {
        element: remove(sub, item, below.get(element, set()))
        for element, (sub, item) in within.items()
        if () not in below.get(element, ())
    }
    return list(kept.values()) if isinstance(value, list) else {element[2:]: item for element, item in kept.items()}


def compare(node: Node, old: Any, new: Any) -> tuple[set[Path], set[Path]]:
    """(added or modified paths, removed paths) between two values; None stands for absent."""
    changed: set[Path] = set()
    removed: set[Path] = set()
    _compare(node, old, new, (), changed, removed)
    return changed, removed


def _compare(node: Node, old: Any, new: Any, path: Path, changed: set[Path], removed: set[Path]) -> None:
    if old == new:
        return
    if not isinstance(old, dict | list) and not isinstance(new, dict | list):
        (removed if new is None else changed).add(path)
        return
    before, after = members(node, old), members(node, new)
    whole = (before is None and old is not None) or (after is None and new is not None)
    if path and (new is None or old is None or whole):
        (removed if new is None else changed).add(path)
    if whole:
        return
    before, after = before or {}, after or {}
    for element, (sub, item) in after.items():
        held = before[element][1] if element in before else None
        if held is None and old is not None and sub.strict and sub.emit:
            held = _EMPTY.get(sub.shape)  # written even when empty: it was there if its parent was
        _compare(sub, held, item, (*path, element), changed, removed)
    for element, (sub, item) in before.items():
        if element not in after:
            _compare(sub, item, None, (*path, element), changed, removed)


_EMPTY: dict[Shape, Any] = {Shape.LIST: [], Shape.MAP: {}, Shape.OBJECT: {}}


def merge(node: Node, live: Any, applied: Any) -> Any:
    """The live value with the applied one laid over it, list maps by key, atomic values whole."""
    have, want = members(node, live), members(node, applied)
    if applied is None or want is None or have is None:
        return live if applied is None else applied
    merged = {element: merge(sub, have.get(element, (ANY, None))[1], item) for element, (sub, item) in want.items()}
    if isinstance(applied, list):
        return [item for _, item in _in_order(list(have), {e: i for e, (_, i) in have.items()}, merged)]
    return {**live, **{element[2:]: item for element, item in merged.items()}}


def _in_order(left: list[str], have: Obj, merged: Obj) -> Iterable[tuple[str, Any]]:
    """The applied order, with items of the live list alone staying where they were."""
    right = list(merged)
    i = j = 0
    while i < len(left) or j < len(right):
        if i < len(left) and left[i] not in merged:
            yield left[i], have[left[i]]
            i += 1
            continue
        if j >= len(right):
            break
        shared = next((key for key in right[j:] if key in have), None)
        if i < len(left) and left[i] != right[j] and left[i] != shared:
            i += 1
            continue
        if i < len(left) and left[i] == right[j]:
            i += 1
        yield right[j], merged[right[j]]
        j += 1
