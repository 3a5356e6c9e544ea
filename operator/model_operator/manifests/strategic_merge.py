"""The overlay of `spec.server.podTemplate` on the pod template: a subset of the strategic merge patch of Kubernetes.

https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md
"""

from collections.abc import Mapping, Sequence
from typing import Any

from model_operator.api.place import Place
from model_operator.api.pod_template import MERGE_KEYS
from model_operator.errors import InvalidSpec

#: Fields that are objects at any path; the API server rejects errors in other fields, with their name.
_OBJECTS = frozenset({"metadata", "spec", "labels", "annotations", "resources", "securityContext"})
#: Maps with keys of the user's choice; a label `env` is not a list of variables.
_FREE_MAPS = frozenset(
    {"labels", "annotations", "nodeSelector", "matchLabels", "limits", "requests", "volumeAttributes"}
)


def check_overlay(patch: Any, path: str) -> None:
    """Check that an overlay has the shape that `overlay` merges; how deep it is was checked with the spec.

    Args:
        path: of the overlay in the resource, for messages.

    Raises:
        InvalidSpec: an entry of a list has no merge key, two have the same, a field has the wrong type, or the overlay
            removes the whole spec.
    """
    if isinstance(patch, Mapping) and patch.get("spec", {}) is None:
        raise InvalidSpec(f"{path}.spec must be an object, and is null: a pod needs a spec")
    _check_value(patch, Place(path))


def _check_value(patch: Any, path: Place) -> None:
    if isinstance(patch, Mapping):
        for field, value in patch.items():
            _check_field(field, value, path.at(field))
    elif isinstance(patch, Sequence) and not isinstance(patch, str):
        for index, item in enumerate(patch):
            _check_value(item, path.at(index))


def _check_field(field: str, value: Any, path: Place) -> None:
    if field in _OBJECTS and not isinstance(value, Mapping | None):
        raise InvalidSpec(f"{path} must be an object, and is {_kind(value)}")
    if field in MERGE_KEYS and value is not None:
        _check_list(value, field, path)
    if field not in _FREE_MAPS:
        _check_value(value, path)


def _check_list(value: Any, field: str, path: Place) -> None:
    key, type_ = MERGE_KEYS[field]
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InvalidSpec(f"{path} must be a list, and is {_kind(value)}")
    found = set[Any]()
    for index, item in enumerate(value):
        if not isinstance(item, Mapping):
            raise InvalidSpec(f"{path}[{index}] must be an object with the field {key}, and is {_kind(item)}")
        if not isinstance(item.get(key), type_) or isinstance(item.get(key), bool):
            raise InvalidSpec(f"{path}[{index}] needs the field {key}, by which entries are merged")
        identity = _identity(item, key)
        if identity in found:
            raise InvalidSpec(f"{path}[{index}] has the {key} {item[key]!r} of an entry before it; merge the two")
        found.add(identity)


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    return names.get(type(value), "a list" if isinstance(value, Sequence) else "an object")


def overlay(base: Any, patch: Any, field: str = "") -> Any:
    """Return `base` under `patch`: maps merge, keyed lists merge by key, null removes, the rest replaces.

    The patch has passed `check_overlay`.
    """
    if isinstance(base, Mapping) and isinstance(patch, Mapping):
        merged = {key: value for key, value in base.items() if patch.get(key, value) is not None}
        for key, value in patch.items():
            if value is not None:
                merged[key] = overlay(base.get(key), value, key)
        return merged
    if field in MERGE_KEYS and isinstance(base, Sequence) and isinstance(patch, Sequence):
        return _merge_lists(base, patch, MERGE_KEYS[field][0])
    return patch


def _merge_lists(base: Sequence[Any], patch: Sequence[Any], key: str) -> list[Any]:
    patches = {_identity(item, key): item for item in patch}
    identities = [_identity(item, key) for item in base]
    merged = [overlay(item, patches.get(identity, {})) for item, identity in zip(base, identities, strict=True)]
    return merged + [item for item in patch if _identity(item, key) not in identities]


def _identity(item: Mapping[str, Any], key: str) -> tuple[Any, ...]:
    """Return the identity of an entry of a list; one port number may occur for TCP and for UDP."""
    return (item[key], item.get("protocol", "TCP")) if key == "containerPort" else (item[key],)
