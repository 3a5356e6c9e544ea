"""Whether a live object still is what we applied: by its hash, and field by field for foreign writes."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from model_operator.api.names import APPLIED_HASH
from model_operator.api.quantities import canonical_quantity, is_quantity

#: Keys by which lists of maps are merged (Kubernetes' list-map keys that we use).
_MERGE_KEYS = ("name", "mountPath", "type")


def content_hash(body: Mapping[str, Any]) -> str:
    """Return a short hash of an object's content; the hash annotation itself does not count."""
    text = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def needs_apply(wanted: Mapping[str, Any], live: Mapping[str, Any] | None, owned: Sequence[str] = ()) -> bool:
    """Whether the object has to be applied: it is absent, we want another content, or another client wrote into it."""
    return live is None or applied_hash(live) != applied_hash(wanted) or has_drifted(wanted, live, owned)


def has_drifted(wanted: Mapping[str, Any], live: Mapping[str, Any], owned: Sequence[str] = ()) -> bool:
    """Whether the live object lacks a field that we applied, or has another value there.

    Args:
        owned: fields of `spec` that are ours as a whole; there a field more is a drift too.
    """
    for field in owned:
        if (live["spec"].get(field) or None) != (wanted["spec"].get(field) or None):
            return True
    return not all(
        contains(live.get(part), value)
        for part, value in wanted.items()
        if part not in ("apiVersion", "kind", "metadata")
    ) or not contains(live["metadata"].get("labels"), wanted["metadata"]["labels"])


def applied_hash(body: Mapping[str, Any]) -> str:
    """Return the content hash that an object carries."""
    return str((body["metadata"].get("annotations") or {}).get(APPLIED_HASH, ""))


def contains(live: Any, wanted: Any, field: str = "") -> bool:
    """Whether everything wanted is in a live value; the API server may have added defaults to it.

    A field that is absent from the live object has the zero value: 0, "", false, [] or {} (fields with
    `omitempty` are not stored when they are zero).
    """
    if live is None:
        return not wanted
    if isinstance(wanted, dict):
        if not isinstance(live, dict):
            return False
        # Most fields are equal: they are not worth a call.
        others = [(key, live.get(key), value) for key, value in wanted.items() if live.get(key) != value]
        return all(
            canonical_quantity(found) == canonical_quantity(value)
            if is_quantity(field, key)
            else contains(found, value, key)
            for key, found, value in others
        )
    if isinstance(wanted, list):
        return _contains_list(live, wanted, field)
    return bool(live == wanted)


def _contains_list(live: Any, wanted: Sequence[Any], field: str) -> bool:
    if not isinstance(live, list) or len(live) < len(wanted):
        return False
    key = next((k for k in _MERGE_KEYS if all(isinstance(item, dict) and k in item for item in wanted)), "")
    if key and wanted:
        by_key = {item.get(key): item for item in live if isinstance(item, dict)}
        return all(by_key.get(item[key]) == item or contains(by_key.get(item[key]), item, field) for item in wanted)
    return len(live) == len(wanted) and all(contains(a, b, field) for a, b in zip(live, wanted, strict=True))
