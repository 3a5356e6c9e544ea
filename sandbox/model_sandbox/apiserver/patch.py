"""JSON patch, merge patch and strategic merge patch: a document and a patch in, a document out."""

from __future__ import annotations

import copy
from collections.abc import MutableMapping
from types import MappingProxyType
from typing import Any

import jsonpatch
import jsonpointer

from model_sandbox.apiserver.errors import Obj, bad_request, go_value, internal, rejected_patch
from model_sandbox.apiserver.schema import ANY, Node, Shape

MAX_OPERATIONS = 10_000


class _Replace(jsonpatch.ReplaceOperation):
    """Kubernetes lets `replace` of an absent map key act as `add`."""

    def apply(self, obj: Any) -> Any:
        subject, part = self.pointer.to_last(obj)
        if isinstance(subject, MutableMapping) and part is not None:
            subject[part] = self.operation["value"]
            return obj
        return super().apply(obj)


class _JsonPatch(jsonpatch.JsonPatch):
    operations = MappingProxyType({**jsonpatch.JsonPatch.operations, "replace": _Replace})


def json_patch(document: Obj, patch: Any) -> Any:
    """RFC 6902, all operations or none."""
    if not isinstance(patch, list):
        told = "object" if isinstance(patch, dict) else "value"
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {told} into Go value of type []handlers.jsonPatchOp"
        )
    if len(patch) > MAX_OPERATIONS:
        raise bad_request(f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(patch)}")
    try:
        return _JsonPatch(patch).apply(copy.deepcopy(document))
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError, KeyError, AttributeError):
        raise rejected_patch() from None


def merge_patch(document: Any, patch: Any) -> Any:
    """RFC 7386: null removes a key, objects merge, anything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


_DIRECTIVE, _RETAIN = "$patch", "$retainKeys"
_ORDER, _DELETE = "$setElementOrder/", "$deleteFromPrimitiveList/"
_LISTS = {_RETAIN: "retainKeys", _ORDER: "setElementOrder list", _DELETE: "primitive list"}


def strategic_merge(node: Node, document: Any, patch: Any) -> Any:
    """Kubernetes' own merge: lists join by the merge key of their schema, `$` directives are obeyed."""
    if not isinstance(patch, dict):
        raise bad_request(f"json: cannot unmarshal {type(patch).__name__} into Go value of type map")
    directive = patch.get(_DIRECTIVE)
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != _DIRECTIVE}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise internal(f"unknown patch type: {directive} in map: {_go_map(patch)}")
    for key, value in patch.items():
        for start, told in _LISTS.items():
            if key.startswith(start) and not isinstance(value, list):
                raise bad_request(f"invalid patch format of {told}")
    document = document if isinstance(document, dict) else {}
    result = {key: value for key, value in document.items() if key in patch.get(_RETAIN, document)}
    for key in patch:
        name = key.removeprefix(_DELETE).removeprefix(_ORDER)
        if key.startswith(_DELETE):
            result[name] = [item for item in result.get(name) or [] if item not in patch[key]]
        elif not key.startswith("$") or (key.startswith(_ORDER) and name not in patch):
            _merge_member(node.child(name) or ANY, name, result, patch)
    return result


def _merge_member(node: Node, name: str, result: Obj, patch: Obj) -> None:
    given = patch.get(name)
    if name in patch and given is None:
        result.pop(name, None)
    elif isinstance(given, dict):
        result[name] = strategic_merge(node, result.get(name), given)
    elif node.shape is Shape.LIST and node.merge and isinstance(given, list | None):
        result[name] = _merge_list(node, result.get(name) or [], given or [], patch.get(_ORDER + name))
    elif name in patch:
        result[name] = given


def _merge_list(node: Node, current: list[Any], patch: list[Any], order: list[Any] | None) -> list[Any]:
    if any(_DIRECTIVE in item and item[_DIRECTIVE] == "replace" for item in patch if isinstance(item, dict)):
        return [item for item in patch if _DIRECTIVE not in item]
    items = {_key_of(node, item): item for item in current}
    places = {key: index for index, key in enumerate(items)}
    changed: list[Any] = []
    for item in patch:
        key = _key_of(node, item)
        if not node.merge_key:
            items[key] = item
        elif item.get(_DIRECTIVE) == "delete":
            items.pop(key, None)
            continue
        else:
            items[key] = strategic_merge(node.item, items.get(key), item)
        changed.append(key)
    wanted = changed if order is None else [_key_of(node, item) for item in order]
    # Items of the patch in its order, the others in theirs, merged by their old places.
    left = [key for key in dict.fromkeys(wanted) if key in items]
    right = [key for key in items if key in places and key not in left]
    left += [key for key in items if key not in places and key not in left]
    merged: list[Any] = []
    while left and right:
        in_front = left[0] not in places or places[left[0]] < places[right[0]]
        merged.append(left.pop(0) if in_front else right.pop(0))
    return [items[key] for key in [*merged, *left, *right]]


def _key_of(node: Node, item: Any) -> Any:
    if node.merge_key and (not isinstance(item, dict) or node.merge_key not in item):
        raise internal(f"map: {_go_map(item)} does not contain declared merge key: {node.merge_key}")
    return go_value(item[node.merge_key] if node.merge_key else item)  # which may be of any type


def _go_map(value: Any) -> str:
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_go_map(item)}" for key, item in sorted(value.items())) + "]"
    return str(value)
