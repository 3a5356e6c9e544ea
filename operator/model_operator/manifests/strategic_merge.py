"""The overlay of `spec.server.podTemplate` on the pod template, by Kubernetes' strategic rules in small."""

from collections.abc import Mapping, Sequence
from typing import Any

#: By which key the entries of a list are told apart; other lists are replaced whole.
_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "hostAliases": "ip",
}


def overlay(base: Any, patch: Any, field: str = "") -> Any:
    """Return `base` under `patch`: maps merge, keyed lists merge by key, null removes, the rest replaces."""
    if isinstance(base, Mapping) and isinstance(patch, Mapping):
        merged = {key: value for key, value in base.items() if patch.get(key, value) is not None}
        for key, value in patch.items():
            if value is not None:
                merged[key] = overlay(base.get(key), value, key)
        return merged
    key = _KEYS.get(field)
    if key and isinstance(base, Sequence) and isinstance(patch, Sequence):
        return _merge_lists(base, patch, key)
    return patch


def _merge_lists(base: Sequence[Any], patch: Sequence[Any], key: str) -> list[Any]:
    patches = {item[key]: item for item in patch}
    known = [item[key] for item in base]
    merged = [overlay(item, patches[item[key]]) if item[key] in patches else item for item in base]
    return merged + [item for item in patch if item[key] not in known]
