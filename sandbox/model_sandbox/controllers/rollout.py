"""How a Deployment moves from one ReplicaSet to the next. Pure: sizes in, sizes out."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

from model_sandbox.client import Obj

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
_OWN_ANNOTATIONS = (
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    HISTORY,
    DESIRED,
    MAXIMUM,
)
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def template_hash(template: Obj, collisions: int) -> str:
    """A short name for a pod template."""
    text = json.dumps([template, collisions], sort_keys=True)
    digest = hashlib.sha256(text.encode()).digest()
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:10])


def same_template(one: Obj, other: Obj) -> bool:
    """Whether two templates are equal but for the hash label."""
    return _bare(one) == _bare(other)


def _bare(template: Obj) -> Obj:
    metadata = dict(template.get("metadata") or {})
    labels = {key: value for key, value in (metadata.pop("labels", None) or {}).items() if key != HASH_LABEL}
    return {**template, "metadata": {**metadata, "labels": labels}}


def copied_annotations(deployment: Obj) -> dict[str, str]:
    """The annotations that a Deployment hands to its ReplicaSets."""
    annotations = deployment["metadata"].get("annotations") or {}
    return {key: value for key, value in annotations.items() if key not in _OWN_ANNOTATIONS}


def revision_of(body: Obj) -> int:
    """The revision annotation; 0 if there is none."""
    text = (body["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdecimal() else 0


def _resolve(value: Any, total: int, *, up: bool) -> int:
    if isinstance(value, str):
        share = int(value.removesuffix("%")) * total / 100
        return math.ceil(share) if up else math.floor(share)
    return int(value or 0)


def limits(deployment: Obj) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods."""
    spec = deployment["spec"]
    rolling = spec["strategy"].get("rollingUpdate")
    replicas = spec.get("replicas", 1)
    if spec["strategy"].get("type") != "RollingUpdate" or rolling is None:
        return 0, 0
    surge = _resolve(rolling.get("maxSurge"), replicas, up=True)
    unavailable = _resolve(rolling.get("maxUnavailable"), replicas, up=False)
    if not surge and not unavailable:
        unavailable = 1
    return surge, min(unavailable, replicas)


def size_of(replica_set: Obj) -> int:
    """How many pods a ReplicaSet shall have."""
    return int(replica_set["spec"].get("replicas", 0))


def available(replica_set: Obj) -> int:
    """How many of its pods are available."""
    return int((replica_set.get("status") or {}).get("availableReplicas", 0))


def rolling_sizes(deployment: Obj, new: Obj, old: Sequence[Obj]) -> dict[str, int]:
    """The next sizes of a rolling update, by ReplicaSet name; those that stay are left out."""
    surge, unavailable = limits(deployment)
    replicas = deployment["spec"].get("replicas", 1)
    total = size_of(new) + sum(map(size_of, old))
    name = new["metadata"]["name"]
    if size_of(new) > replicas:
        return {name: replicas}
    if size_of(new) < replicas and total < replicas + surge:
        return {name: min(replicas, size_of(new) + replicas + surge - total)}
    return _old_sizes(new, old, total - (replicas - unavailable), replicas - unavailable)


def _old_sizes(new: Obj, old: Sequence[Obj], above: int, least: int) -> dict[str, int]:
    """First take away what is not available, then as many as may be missing."""
    spare = above - (size_of(new) - available(new))
    sizes = {one["metadata"]["name"]: size_of(one) for one in old if size_of(one)}
    if spare <= 0 or not sizes:
        return {}
    in_order = sorted((one for one in old if size_of(one)), key=lambda one: one["metadata"]["creationTimestamp"])
    before = dict(sizes)
    for one in in_order:
        cut = min(spare, sizes[one["metadata"]["name"]] - min(available(one), sizes[one["metadata"]["name"]]))
        sizes[one["metadata"]["name"]] -= cut
        spare -= cut
    free = available(new) + sum(min(available(one), sizes[one["metadata"]["name"]]) for one in in_order) - least
    for one in in_order:
        cut = max(0, min(free, sizes[one["metadata"]["name"]]))
        sizes[one["metadata"]["name"]] -= cut
        free -= cut
    return {name: size for name, size in sizes.items() if size != before[name]}


def is_resized(deployment: Obj, sets: Sequence[Obj]) -> bool:
    """Whether `spec.replicas` changed since the sets were sized."""
    wanted = deployment["spec"].get("replicas", 1)
    for one in sets:
        text = (one["metadata"].get("annotations") or {}).get(DESIRED)
        if size_of(one) and text is not None and int(text) != wanted:
            return True
    return False


def resized(deployment: Obj, new: Obj | None, old: Sequence[Obj]) -> dict[str, int]:
    """The sizes after `spec.replicas` changed in the middle of a rollout: in proportion."""
    replicas = deployment["spec"].get("replicas", 1)
    active = [one for one in [*old, *([new] if new else [])] if size_of(one)]
    if len(active) <= 1:
        latest = active[0] if active else new
        return {latest["metadata"]["name"]: replicas} if latest and size_of(latest) != replicas else {}
    if new is not None and size_of(new) == replicas == available(new):
        return {one["metadata"]["name"]: 0 for one in old if size_of(one)}
    total = sum(map(size_of, active))
    allowed = replicas + limits(deployment)[0] if replicas else 0
    shares = {one["metadata"]["name"]: size_of(one) * allowed // total for one in active}
    youngest = max(active, key=lambda one: (size_of(one), one["metadata"]["creationTimestamp"]))
    shares[youngest["metadata"]["name"]] += allowed - sum(shares.values())
    return {one["metadata"]["name"]: shares[one["metadata"]["name"]] for one in active}


def is_complete(deployment: Obj, status: Obj) -> bool:
    """Whether only new pods are left and all of them are available."""
    replicas = deployment["spec"].get("replicas", 1)
    counts = (status.get(name, 0) for name in ("updatedReplicas", "replicas", "availableReplicas"))
    return all(count == replicas for count in counts)


def status_of(deployment: Obj, new: Obj | None, sets: Sequence[Obj]) -> Obj:
    """The numbers of a Deployment's status."""

    def total(name: str, among: Sequence[Obj]) -> int:
        return sum((one.get("status") or {}).get(name, 0) for one in among)

    replicas, ready = total("replicas", sets), total("availableReplicas", sets)
    status = {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": replicas,
        "updatedReplicas": total("replicas", [new]) if new else 0,
        "readyReplicas": total("readyReplicas", sets),
        "availableReplicas": ready,
        "unavailableReplicas": max(0, sum(map(size_of, sets)) - ready),
    }
    shown = {name: value for name, value in status.items() if value}
    shown["terminatingReplicas"] = total("terminatingReplicas", sets)
    if (deployment.get("status") or {}).get("collisionCount"):
        shown["collisionCount"] = deployment["status"]["collisionCount"]
    return shown
