"""Whether two specs ask for the same pods, and so are one revision. PURE.

The operator decides this by a hash (its `api/identity.py`); `tests/contract` holds the two to the same answer. Both
specs are as the API server returns them, with all defaults.
"""

from collections.abc import Mapping
from typing import Any

from modeldeploy.durations import parse_duration
from modeldeploy.fleet.quantities import number_of

Body = Mapping[str, Any]

_MONITORED = ("drift", "dataQuality", "slices", "estimatedQuality")
_QUANTITIES = frozenset({"requests", "limits", "overhead"})
_QUANTITY = frozenset({"sizeLimit", "divisor"})
#: Lists whose order means nothing, by what their items are known by.
_SETS = {"protect": "", "limits": "key", "slices": "name"}
#: Lists of a pod template that merge by a key: an empty one changes nothing.
_MERGED = frozenset(
    {"containers", "initContainers", "ephemeralContainers", "volumes", "env", "imagePullSecrets", "ports"}
    | {"volumeMounts", "volumeDevices", "hostAliases"}
)


def changed_for_pods(before: Body, after: Body) -> list[str]:
    """Return the fields of `spec` by which the pods of two specs differ; none when they are one revision."""
    first, second = _asked(before), _asked(after)
    return [path for path in sorted({*first, *second}) if first.get(path) != second.get(path)]


def _asked(spec: Body) -> dict[str, Any]:
    """What pods are made from, by path: each field of the model and the server, and what the server monitors."""
    monitoring = spec.get("monitoring") or {}
    found = {f"model.{name}": value for name, value in (spec.get("model") or {}).items()}
    found |= {f"server.{name}": value for name, value in (spec.get("server") or {}).items()}
    found |= {f"monitoring.{name}": monitoring[name] for name in _MONITORED if monitoring.get(name)}
    if monitoring.get("dataQuality") is not None:
        found["monitoring.dataQuality"] = monitoring["dataQuality"]
    if monitoring.get("drift") is not None:
        found["monitoring.drift"] = monitoring["drift"]
    plain = {f"spec.{path}": _one_spelling(value, path.rpartition(".")[2]) for path, value in found.items()}
    return {path: value for path, value in plain.items() if not _is_nothing(path, value)}


def _is_nothing(path: str, value: Any) -> bool:
    if path in ("spec.server.env", "spec.server.resources"):
        return not _has_effect(value)
    return value is None or (path == "spec.server.podTemplate" and value == {})


def _has_effect(value: Any) -> bool:
    return any(map(_has_effect, value.values())) if isinstance(value, Mapping) else value not in (None, [])


def _one_spelling(value: Any, name: str) -> Any:
    if name == "podTemplate":
        return _overlay(value or {})
    if name == "pollInterval" and value is not None:
        return parse_duration(value).total_seconds()
    if isinstance(value, Mapping):
        if name in _QUANTITIES:
            return {key: _quantity(one) for key, one in value.items()}
        return {
            key: _quantity(one) if key in _QUANTITY else _one_spelling(one, key)
            for key, one in value.items()
            if one is not None
        }
    if isinstance(value, list):
        items = [_one_spelling(one, "") for one in value]
        key = _SETS.get(name)
        return items if key is None else sorted(items, key=lambda one: str(one.get(key) if key else one))
    return value


def _quantity(value: Any) -> Any:
    """The number that a quantity stands for; what is none as it is."""
    return number_of(value) or str(value)


def _overlay(template: Body) -> dict[str, Any]:
    """The part of a pod template that changes pods; a null in it removes a field, and is kept."""
    kept = dict[str, Any]()
    for name, value in template.items():
        plain = (
            _overlay(value) if isinstance(value, Mapping) and name not in _QUANTITIES else _one_spelling(value, name)
        )
        if name == "containers" and isinstance(value, list):
            containers = [_overlay(one) for one in value]
            plain = [one for one in containers if one != {"name": "server"}]
        if plain != {} and not (name in _MERGED and plain == []):
            kept[name] = plain
    return kept
