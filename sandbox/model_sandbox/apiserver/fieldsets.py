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
        element = element_of(node, item, where=f"{show(path)}: element {index}: ")
        if check and element in found:
            raise ListKeyError(f"{show(path)}: duplicate entries for key {show((element,))}")
        found.setdefault(element, item)
    return found


def is_keyed(node: Node) -> bool:
    """Whether a list's items have an identity of their own."""
    return node.shape is Shape.LIST and bool(node.keys or node.is_set) and not node.atomic


def is_granular(node: Node, value: Any) -> bool:
    """Whether a map's members are owned one by one."""
    return isinstance(value, dict) and not node.atomic and node.shape in (Shape.OBJECT, Shape.MAP, Shape.ANY)


def paths_of(node: Node, value: Any, path: Path = (), *, check: bool = False) -> set[Path]:
    """Every path that a value sets: what an applied configuration owns."""
    if is_granular(node, value):
        found: set[Path] = set()
        for name, item in value.items():
            sub = node.child(name) or ANY
            below = (*path, f"f:{name}")
            found |= paths_of(sub, item, below, check=check)
            if item is None or item == {} or (name not in node.fields and node.shape is not Shape.OBJECT):
                found.add(below)
        return found
    if is_keyed(node) and isinstance(value, list):
        found = set()
        for element, item in keyed(node, value, path, check=check).items():
            found.add((*path, element))
            if not node.is_set:
                found |= paths_of(node.item, item, (*path, element), check=check)
        return found
    return {path} if path else set()


def with_named(paths: Iterable[Path], root: Node) -> set[Path]:
    """The set with the declared fields that lie above its paths (maps' keys and list items are not added)."""
    found: set[Path] = set()
    for path in paths:
        found.add(path)
        node: Node | None = root
        for depth, element in enumerate(path[:-1], start=1):
            node, declared = _descend(node, element)
            if declared:
                found.add(path[:depth])
    return found


def _descend(node: Node | None, element: str) -> tuple[Node | None, bool]:
    if node is None:
        return None, False
    if element.startswith("f:"):
        name = element[2:]
        return node.child(name), node.shape is Shape.OBJECT and name in node.fields
    return node.item, False


def remove(node: Node, value: Any, paths: set[Path]) -> Any:
    """The value without everything at or below the paths."""
    if not paths:
        return value
    below: dict[str, set[Path]] = {}
    gone: set[str] = set()
    for path in paths:
        if len(path) == 1:
            gone.add(path[0])
        elif path:
            below.setdefault(path[0], set()).add(path[1:])
    if is_granular(node, value):
        result = {}
        for name, item in value.items():
            element = f"f:{name}"
            if element not in gone:
                result[name] = remove(node.child(name) or ANY, item, below.get(element, set()))
        return result
    if is_keyed(node) and isinstance(value, list):
        kept = []
        for item in value:
            element = element_of(node, item)
            if element not in gone:
                kept.append(remove(node.item, item, below.get(element, set())))
        return kept
    return value


def compare(node: Node, old: Any, new: Any, path: Path = ()) -> tuple[set[Path], set[Path]]:
    """(added or modified paths, removed paths) between two values; None stands for absent."""
    changed: set[Path] = set()
    removed: set[Path] = set()
    if old == new:
        return changed, removed
    if is_granular(node, new if new is not None else old) and isinstance(old, dict | None):
        before, after = old or {}, new or {}
        pairs = [(f"f:{name}", node.child(name) or ANY) for name in before.keys() | after.keys()]
        sides = [
            (element, sub, _held(sub, before.get(element[2:]), old is not None), after.get(element[2:]))
            for element, sub in pairs
        ]
    elif is_keyed(node) and isinstance(old, list | None) and isinstance(new, list | None):
        held, given = keyed(node, old or []), keyed(node, new or [])
        item = ANY if node.is_set else node.item
        sides = [(one, item, held.get(one), given.get(one)) for one in held.keys() | given.keys()]
    else:
        (removed if new is None else changed).add(path)
        return changed, removed
    if path and old is None:
        changed.add(path)
    if path and new is None:
        removed.add(path)
    for element, sub, left, right in sides:
        more, less = compare(sub, left, right, (*path, element))
        changed |= more
        removed |= less
    return changed, removed


def _held(node: Node, value: Any, parent: bool) -> Any:
    """An old value; a field that is written even when empty was there if its parent was."""
    if value is None and parent and node.strict and node.emit:
        return {Shape.LIST: [], Shape.MAP: {}, Shape.OBJECT: {}}.get(node.shape)
    return value


def merge(node: Node, live: Any, applied: Any) -> Any:
    """The live value with the applied one laid over it, list maps by key, atomic values whole."""
    if applied is None:
        return live
    if is_granular(node, applied) and isinstance(live, dict):
        result = dict(live)
        for name, item in applied.items():
            result[name] = merge(node.child(name) or ANY, live.get(name), item)
        return result
    if is_keyed(node) and isinstance(applied, list) and isinstance(live, list):
        return _merge_lists(node, live, applied)
    return applied


def _merge_lists(node: Node, live: list[Any], applied: list[Any]) -> list[Any]:
    """The applied order, with items of the live list alone staying where they were."""
    left, right = list(keyed(node, live)), list(keyed(node, applied))
    have, want = keyed(node, live), keyed(node, applied)
    result: list[Any] = []
    i = j = 0
    while i < len(left) or j < len(right):
        if i < len(left) and left[i] not in want:
            result.append(have[left[i]])
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
        result.append(want[right[j]] if node.is_set else merge(node.item, have.get(right[j]), want[right[j]]))
        j += 1
    return result
