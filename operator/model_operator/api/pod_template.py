"""The overlay `spec.server.podTemplate`: how its lists merge, and which of its parts change pods."""

from collections.abc import Mapping
from typing import Any

from model_operator.api.json import JsonObject

#: Merge keys of lists and their types, as in the Kubernetes API; other lists are replaced as a whole.
MERGE_KEYS: Mapping[str, tuple[str, type]] = {
    "containers": ("name", str),
    "initContainers": ("name", str),
    "ephemeralContainers": ("name", str),
    "volumes": ("name", str),
    "env": ("name", str),
    "imagePullSecrets": ("name", str),
    "ports": ("containerPort", int),
    "volumeMounts": ("mountPath", str),
    "volumeDevices": ("devicePath", str),
    "hostAliases": ("ip", str),
}
#: Name of the container of the model server.
SERVER_CONTAINER = "server"
#: Fields of that container that a pod without requests does not need.
SERVING_FIELDS = ("ports", "startupProbe", "readinessProbe", "livenessProbe", "lifecycle")
#: Name of the container of a server of the user's own (`spec.server.container`).
OWN_CONTAINER = "app"


def effective_overlay(overlay: Mapping[str, Any]) -> JsonObject:
    """Return the part of an overlay that changes pods; empty if there is none.

    An empty map, an empty list that merges by key, and the server's container with no field but its name change
    nothing. `kubectl apply` without `--server-side` leaves such a rest of `{name: server, livenessProbe: null}`. A null
    that is stored removes a default, and is kept.
    """
    effective = {name: _effective(name, value) for name, value in overlay.items()}
    return {name: value for name, value in effective.items() if not _is_without_effect(name, value)}


def _effective(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return effective_overlay(value)
    if name == "containers" and isinstance(value, list | tuple):
        containers = [effective_overlay(one) if isinstance(one, Mapping) else one for one in value]
        return [one for one in containers if one != {"name": SERVER_CONTAINER}]
    return value


def _is_without_effect(name: str, value: Any) -> bool:
    return value == {} or (name in MERGE_KEYS and value in ([], ()))
