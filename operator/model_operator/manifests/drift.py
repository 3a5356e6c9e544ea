"""Detection of drift between a live object and the applied one: by hash, and field by field for foreign writes."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from model_operator.api.names import APPLIED_HASH
from model_operator.api.quantities import canonical_quantity, is_quantity

#: Keys by which lists of maps are merged (those of the list-map keys of Kubernetes that the operator uses).
_MERGE_KEYS = ("name", "mountPath", "type")
_IDENTITY = frozenset({"apiVersion", "kind", "metadata"})


def content_hash(body: Mapping[str, Any]) -> str:
    """Return a short hash of the content of an object, without the hash annotation itself."""
    text = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def needs_apply(desired: Mapping[str, Any], live: Mapping[str, Any] | None, owned: Sequence[str] = ()) -> bool:
    """Whether the object has to be applied: it is absent, we want another content, or another client wrote into it."""
    return live is None or applied_hash(live) != applied_hash(desired) or has_drifted(desired, live, owned)


def has_drifted(desired: Mapping[str, Any], live: Mapping[str, Any], owned: Sequence[str] = ()) -> bool:
    """Whether the live object lacks a field that we applied, or has another value there.

    Args:
        owned: fields of `spec` that are ours as a whole; there a field more is a drift too.
    """
    for field in owned:
        if (live["spec"].get(field) or None) != (desired["spec"].get(field) or None):
            return True
    parts = ((live.get(part), value) for part, value in desired.items() if part not in _IDENTITY)
    metadata = ((live["metadata"].get(part), desired["metadata"].get(part)) for part in ("labels", "annotations"))
    return not all(contains(found, value) for found, value in (*parts, *metadata))


def applied_hash(body: Mapping[str, Any]) -> str:
    """Return the content hash in the annotation of an object."""
    return str((body["metadata"].get("annotations") or {}).get(APPLIED_HASH, ""))


def contains(live: Any, desired: Any, field: str = "") -> bool:
    """Whether a live value contains the desired one; the API server may have added defaults.

    A field that is absent from the live object has the zero value: 0, "", false, [] or {} (fields with
    `omitempty` are not stored when they are zero).
    """
    if live is None:
        return not desired
    if isinstance(desired, dict):
        if not isinstance(live, dict):
            return False
        # Most fields are equal: skip the recursive call.
        others = [(key, live.get(key), value) for key, value in desired.items() if live.get(key) != value]
        return all(
            canonical_quantity(found) == canonical_quantity(value)
            if is_quantity(field, key)
            else contains(found, value, key)
            for key, found, value in others
        )
    if isinstance(desired, list):
        return _contains_list(live, desired, field)
    return bool(live == desired)


def _contains_list(live: Any, desired: Sequence[Any], field: str) -> bool:
    if not isinstance(live, list) or len(live) < len(desired):
        return False
    key = next((key for key in _MERGE_KEYS if _identifies(key, desired)), "")
    if key and desired:
        by_key = {item.get(key): item for item in live if isinstance(item, dict)}
        return all(by_key.get(item[key]) == item or contains(by_key.get(item[key]), item, field) for item in desired)
    return len(live) == len(desired) and all(contains(a, b, field) for a, b in zip(live, desired, strict=True))


def _identifies(key: str, items: Sequence[Any]) -> bool:
    """Whether a key tells items apart; an autoscaler may have several metrics of one `type`, whose order counts."""
    values = [item[key] for item in items if isinstance(item, dict) and key in item]
    return len(values) == len(items) == len(set(values))
