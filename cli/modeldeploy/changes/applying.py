"""The request that the next apply of a manifest makes, so that the API server can be asked what would come of it. PURE.

An object that kubectl applied is changed by a three-way merge with what was applied last; one that server-side apply
owns is applied by the same field manager again, as Argo CD and Flux do.
https://kubernetes.io/docs/tasks/manage-kubernetes-objects/declarative-config/#merge-patch-calculation
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Body = Mapping[str, Any]

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Way(StrEnum):
    """How a manifest reaches an object."""

    CREATE = "create"
    MERGE = "merge"
    APPLY = "apply"


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `manager` is the field manager of a server-side apply."""

    way: Way
    body: Body
    manager: str = ""


def request_for(manifest: Body, live: Body | None) -> Request:
    """Return how the next apply changes `live`, the object as it is; None where there is none."""
    if live is None:
        return Request(Way.CREATE, manifest)
    metadata = live["metadata"]
    last = (metadata.get("annotations") or {}).get(LAST_APPLIED)
    managers = [one["manager"] for one in metadata.get("managedFields") or () if _is_apply(one)]
    if last is None and managers:
        return Request(Way.APPLY, manifest, managers[0])
    return Request(Way.MERGE, three_way(_read(last), _as_kubectl_sends(manifest, metadata), live))


def _as_kubectl_sends(manifest: Body, live: Body) -> Body:
    """The manifest with its namespace, and with annotations, among which kubectl writes what it applied.

    Without them the merge would remove both, as what was applied last has them.
    """
    filled = {"namespace": live.get("namespace"), "annotations": {}, **manifest["metadata"]}
    return {**manifest, "metadata": {name: value for name, value in filled.items() if value is not None}}


def _is_apply(entry: Body) -> bool:
    return bool(entry.get("operation") == "Apply" and not entry.get("subresource"))


def _read(last: str | None) -> Body:
    """What was applied last; nothing where nobody has, or the annotation was spoiled."""
    try:
        found = json.loads(last or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}


def three_way(last: Body, manifest: Body, live: Body) -> dict[str, Any]:
    """Return the JSON merge patch that sets what `manifest` says and removes what only `last` said."""
    patch: dict[str, Any] = {}
    for name, value in manifest.items():
        there = live.get(name)
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            before = last.get(name)
            if inner := three_way(before if isinstance(before, Mapping) else {}, value, there):
                patch[name] = inner
        elif value is not None and value != there:
            patch[name] = value
    return patch | {name: None for name in last if manifest.get(name) is None and name in live}
