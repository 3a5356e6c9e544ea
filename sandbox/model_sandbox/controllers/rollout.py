"""What a Deployment does next: the sizes of its ReplicaSets, the revision and the status. Pure.

`deployment.py` carries it out. As on a cluster, one look makes one step; the change it brings about leads to the next.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from model_sandbox.client import Obj
from model_sandbox.controllers.base import FAILURE, condition, owner_reference, parse_time, status_of, with_condition

HASH_LABEL = "pod-template-hash"
_DEPLOYMENT = "deployment.kubernetes.io/"
REVISION, HISTORY = _DEPLOYMENT + "revision", _DEPLOYMENT + "revision-history"
DESIRED, MAXIMUM = _DEPLOYMENT + "desired-replicas", _DEPLOYMENT + "max-replicas"
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_OWN_ANNOTATIONS = {REVISION, HISTORY, DESIRED, MAXIMUM, _APPLIED, "deprecated.deployment.rollback.to"}
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_NO_DEADLINE = 2147483647


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done for a Deployment, in this order."""

    create: Obj | None  # the ReplicaSet of a new template
    patches: Sequence[tuple[Obj, Obj]]  # ReplicaSets, and merge patches for them
    remove: Sequence[Obj]  # ReplicaSets beyond the history's limit
    deployment: Obj  # with its revision and status
    again: float | None  # seconds until time alone changes something


def plan(deployment: Obj, sets: Sequence[Obj], now: datetime) -> Plan:
    """The next step of a Deployment with these ReplicaSets."""
    template = deployment["spec"]["template"]
    matching = [one for one in sets if same_template(one["spec"]["template"], template)]
    new = min(matching, key=_age, default=None)
    old = [one for one in sets if one is not new]
    if deployment["metadata"].get("deletionTimestamp"):
        status, again = _status(deployment, new, sets, now, created=None)
        return Plan(None, [], [], {**deployment, "status": status}, again)
    paused = deployment["spec"].get("paused", False)
    frozen = paused or is_resized(deployment, sets)
    revision = max(max(map(revision_of, old), default=0) + 1, revision_of(new) if new else 0)
    created = None
    if new is None and not frozen and not _is_waiting(deployment, old):
        created = _new_set(deployment, old, revision)
    wanted = {} if created else resized(deployment, new, old) if frozen else _sizes(deployment, new, old)
    patches = [(one, _patch(deployment, one, wanted, revision if one is new else None)) for one in sets]
    status, again = _status(deployment, new, sets, now, created=created)
    body = {**deployment, "status": status}
    if created or new:
        body["metadata"] = _annotated(deployment["metadata"], {REVISION: str(revision)})
    remove = [] if paused or not is_complete(deployment, status) else _forgotten(deployment, old)
    return Plan(created, [(one, patch) for one, patch in patches if patch], remove, body, again)


def template_hash(template: Obj, collisions: int) -> str:
    """A short name for a pod template."""
    digest = hashlib.sha256(json.dumps([template, collisions], sort_keys=True).encode()).digest()
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:10])


def same_template(one: Obj, other: Obj) -> bool:
    """Whether two templates are equal but for the hash label."""
    return _bare(one) == _bare(other)


def _bare(template: Obj) -> Obj:
    metadata = dict(template.get("metadata") or {})
    labels = {key: value for key, value in (metadata.pop("labels", None) or {}).items() if key != HASH_LABEL}
    return {**template, "metadata": {**metadata, "labels": labels}}


def _annotations(body: Obj) -> dict[str, str]:
    return body["metadata"].get("annotations") or {}


def _annotated(metadata: Obj, more: dict[str, str]) -> Obj:
    return {**metadata, "annotations": {**(metadata.get("annotations") or {}), **more}}


def _age(replica_set: Obj) -> str:
    return str(replica_set["metadata"]["creationTimestamp"])


def revision_of(body: Obj) -> int:
    """The revision annotation; 0 if there is none."""
    text = _annotations(body).get(REVISION, "0")
    return int(text) if text.isdecimal() else 0


def size_of(body: Obj) -> int:
    """How many pods a Deployment, or a ReplicaSet, shall have."""
    return int(body["spec"].get("replicas", 1))


def available(replica_set: Obj) -> int:
    """How many pods of a ReplicaSet are available."""
    return int(status_of(replica_set).get("availableReplicas", 0))


def limits(deployment: Obj) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods."""
    strategy, replicas = deployment["spec"]["strategy"], size_of(deployment)
    if strategy.get("type") != "RollingUpdate" or "rollingUpdate" not in strategy:
        return 0, 0
    surge = _share(strategy["rollingUpdate"].get("maxSurge"), replicas, math.ceil)
    unavailable = _share(strategy["rollingUpdate"].get("maxUnavailable"), replicas, math.floor)
    return surge, min(unavailable if surge or unavailable else 1, replicas)


def _share(value: Any, total: int, rounded: Any) -> int:
    return int(rounded(int(value.removesuffix("%")) * total / 100) if isinstance(value, str) else value or 0)


def _marks(deployment: Obj) -> dict[str, str]:
    replicas = size_of(deployment)
    return {DESIRED: str(replicas), MAXIMUM: str(replicas + limits(deployment)[0] if replicas else 0)}


def _handed_down(deployment: Obj) -> dict[str, str]:
    """The annotations that a Deployment hands to its ReplicaSets."""
    return {key: value for key, value in _annotations(deployment).items() if key not in _OWN_ANNOTATIONS}


def _new_set(deployment: Obj, old: Sequence[Obj], revision: int) -> Obj:
    metadata, spec = deployment["metadata"], deployment["spec"]
    digest = template_hash(spec["template"], status_of(deployment).get("collisionCount", 0))
    given = spec["template"].get("metadata") or {}
    labels = {**(given.get("labels") or {}), HASH_LABEL: digest}
    matched = {**(spec["selector"].get("matchLabels") or {}), HASH_LABEL: digest}
    body: Obj = {
        "metadata": {
            "name": f"{metadata['name']}-{digest}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": {**_handed_down(deployment), REVISION: str(revision), **_marks(deployment)},
            "ownerReferences": [owner_reference(deployment)],
        },
        "spec": {
            "replicas": _room(deployment, 0, old),
            "selector": {**spec["selector"], "matchLabels": matched},
            "template": {**spec["template"], "metadata": {**given, "labels": labels}},
        },
    }
    if spec.get("minReadySeconds"):
        body["spec"]["minReadySeconds"] = spec["minReadySeconds"]
    return body


def _patch(deployment: Obj, replica_set: Obj, sizes: dict[str, int], revision: int | None) -> Obj:
    """What a ReplicaSet lacks: its size and what it says about it and, if it is the new one, its revision."""
    annotations, size = _annotations(replica_set), sizes.get(replica_set["metadata"]["name"], size_of(replica_set))
    wanted = _marks(deployment) if size or size != size_of(replica_set) else {}
    spec: Obj = {"replicas": size} if size != size_of(replica_set) else {}
    if revision is not None:
        wanted |= {**_handed_down(deployment), REVISION: str(revision)}
        before = annotations.get(REVISION)
        if before and before != str(revision):
            wanted[HISTORY] = ",".join(filter(None, (annotations.get(HISTORY), before)))
        if (ready := deployment["spec"].get("minReadySeconds", 0)) != replica_set["spec"].get("minReadySeconds", 0):
            spec["minReadySeconds"] = ready
    news = {key: value for key, value in wanted.items() if annotations.get(key) != value}
    return {**({"metadata": {"annotations": news}} if news else {}), **({"spec": spec} if spec else {})}


def _forgotten(deployment: Obj, old: Sequence[Obj]) -> list[Obj]:
    """What is beyond revisionHistoryLimit."""
    empty = [one for one in old if not size_of(one) and not status_of(one).get("replicas")]
    kept = deployment["spec"].get("revisionHistoryLimit", 10)
    return sorted(empty, key=revision_of)[: max(0, len(empty) - kept)]


# --- sizes, by ReplicaSet name; those that stay are left out


def _is_waiting(deployment: Obj, old: Iterable[Obj]) -> bool:
    """Whether all old pods go before the first new one comes, and are not gone yet."""
    if deployment["spec"]["strategy"].get("type") != "Recreate":
        return False
    counts = (status_of(one).get(name, 0) for one in old for name in ("replicas", "terminatingReplicas"))
    return any(counts) or any(map(size_of, old))


def _room(deployment: Obj, size: int, old: Iterable[Obj]) -> int:
    """How large the new set, which has a size, may become."""
    most = size_of(deployment) + limits(deployment)[0]
    return min(size_of(deployment), max(size, most - sum(map(size_of, old))))


def _sizes(deployment: Obj, new: Obj | None, old: Sequence[Obj]) -> dict[str, int]:
    if _is_waiting(deployment, old):
        return dict.fromkeys((one["metadata"]["name"] for one in old), 0)
    return rolling_sizes(deployment, new, old) if new else {}


def rolling_sizes(deployment: Obj, new: Obj, old: Sequence[Obj]) -> dict[str, int]:
    """The next sizes of a rolling update."""
    if (room := _room(deployment, size_of(new), old)) != size_of(new):
        return {new["metadata"]["name"]: room}
    return _old_sizes(new, old, size_of(deployment) - limits(deployment)[1])


def _old_sizes(new: Obj, old: Sequence[Obj], least: int) -> dict[str, int]:
    """First take away what is not available, then as many as may be missing."""
    in_order = sorted((one for one in old if size_of(one)), key=_age)
    sizes = {one["metadata"]["name"]: size_of(one) for one in in_order}
    live = {one["metadata"]["name"]: min(available(one), size_of(one)) for one in in_order}
    spare = sum(sizes.values()) + available(new) - least
    if spare <= 0:
        return {}
    for name in sizes:
        cut = min(spare, sizes[name] - live[name])
        sizes[name], spare = sizes[name] - cut, spare - cut
    free = available(new) + sum(min(live[name], sizes[name]) for name in sizes) - least
    for name in sizes:
        cut = max(0, min(free, sizes[name]))
        sizes[name], free = sizes[name] - cut, free - cut
    return sizes


def is_resized(deployment: Obj, sets: Iterable[Obj]) -> bool:
    """Whether `spec.replicas` changed since the sets were sized."""
    marks = {_annotations(one).get(DESIRED) for one in sets if size_of(one)} - {None}
    return bool(marks - {str(size_of(deployment))})


def resized(deployment: Obj, new: Obj | None, old: Sequence[Obj]) -> dict[str, int]:
    """The sizes after `spec.replicas` changed, or while paused: in the middle of a rollout in proportion."""
    replicas = size_of(deployment)
    active = [one for one in [*old, *([new] if new else [])] if size_of(one)]
    if len(active) <= 1:
        latest = active[0] if active else new
        return {latest["metadata"]["name"]: replicas} if latest else {}
    if new is not None and size_of(new) == replicas == available(new):
        return {one["metadata"]["name"]: 0 for one in old}
    allowed = replicas + limits(deployment)[0] if replicas else 0
    total = sum(map(size_of, active))
    shares = {one["metadata"]["name"]: size_of(one) * allowed // total for one in active}
    largest = max(active, key=lambda one: (size_of(one), _age(one)))
    shares[largest["metadata"]["name"]] += allowed - sum(shares.values())
    return shares


# --- the status


def is_complete(deployment: Obj, status: Obj) -> bool:
    """Whether only new pods are left and all of them are available."""
    counts = {status.get(name, 0) for name in ("updatedReplicas", "replicas", "availableReplicas")}
    return counts == {size_of(deployment)}


def _status(
    deployment: Obj, new: Obj | None, sets: Sequence[Obj], now: datetime, *, created: Obj | None
) -> tuple[Obj, float | None]:
    """The status, and the seconds until the deadline."""

    def total(name: str, among: Sequence[Obj] = sets) -> int:
        return sum(status_of(one).get(name, 0) for one in among)

    before = status_of(deployment)
    counts = {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": total("replicas"),
        "updatedReplicas": total("replicas", [new] if new else []),
        "readyReplicas": total("readyReplicas"),
        "availableReplicas": total("availableReplicas"),
        "unavailableReplicas": max(0, sum(map(size_of, sets)) - total("availableReplicas")),
        "collisionCount": before.get("collisionCount"),
    }
    status: Obj = {name: value for name, value in counts.items() if value}
    status["terminatingReplicas"] = total("terminatingReplicas")
    enough = counts["availableReplicas"] >= size_of(deployment) - limits(deployment)[1]
    reason = "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable"
    told = f"Deployment {'has' if enough else 'does not have'} minimum availability."
    held = with_condition(
        before.get("conditions"), "Available", enough, reason, told, now=now, updated="lastUpdateTime"
    )
    held = [one for one in held if one["type"] != FAILURE]
    if refused := condition(new or {}, FAILURE):
        held += [*filter(None, [condition(deployment, FAILURE)])]
        held = with_condition(
            held, FAILURE, True, refused["reason"], refused["message"], now=now, updated="lastUpdateTime"
        )
    if deployment["spec"].get("progressDeadlineSeconds", _NO_DEADLINE) == _NO_DEADLINE:
        return {**status, "conditions": [one for one in held if one["type"] != "Progressing"]}, None
    progress, again = _progress(deployment, status, new, created, now)
    if progress:
        if _has_advanced(status, before):  # the deadline counts from now, even if the words stay
            held = [{**one, "message": ""} if one["type"] == "Progressing" else one for one in held]
        held = with_condition(held, "Progressing", *progress, now=now, updated="lastUpdateTime")
    return {**status, "conditions": held}, again


def _has_advanced(status: Obj, before: Obj) -> bool:
    """Whether more new pods, or fewer old ones, are there than before."""
    old, now_old = (one.get("replicas", 0) - one.get("updatedReplicas", 0) for one in (before, status))
    names = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return now_old < old or any(status.get(name, 0) > before.get(name, 0) for name in names)


def _progress(
    deployment: Obj, status: Obj, new: Obj | None, created: Obj | None, now: datetime
) -> tuple[tuple[str, str, str] | None, float | None]:
    """Status, reason and message of the condition Progressing, unless it stays; seconds until the deadline."""
    current = condition(deployment, "Progressing") or {}
    reason, subject = current.get("reason"), created or new
    name = (
        f'ReplicaSet "{subject["metadata"]["name"]}"' if subject else f'Deployment "{deployment["metadata"]["name"]}"'
    )
    if deployment["spec"].get("paused"):
        return ("Unknown", "DeploymentPaused", "Deployment is paused"), None
    if reason == "DeploymentPaused":
        return ("Unknown", "DeploymentResumed", "Deployment is resumed"), None
    if created:
        return ("True", "NewReplicaSetCreated", f"Created new replica set {name.removeprefix('ReplicaSet ')}"), None
    done = reason == "NewReplicaSetAvailable"
    if done and status.get("updatedReplicas", 0) == status.get("replicas", 0):
        return None, None
    if is_complete(deployment, status) and new is not None:
        return ("True", "NewReplicaSetAvailable", f"{name} has successfully progressed."), None
    if not current:
        return ("True", "FoundNewReplicaSet", f"Found new replica set {name.removeprefix('ReplicaSet ')}"), None
    if _has_advanced(status, status_of(deployment)) or (reason == "DeploymentResumed" and new is None):
        return ("True", "ReplicaSetUpdated", f"{name} is progressing."), None
    if done or reason == "ProgressDeadlineExceeded":
        return None, None
    seconds = timedelta(seconds=deployment["spec"]["progressDeadlineSeconds"])
    left = (parse_time(current["lastUpdateTime"]) + seconds - now).total_seconds()
    if left <= 0:
        return ("False", "ProgressDeadlineExceeded", f"{name} has timed out progressing."), None
    return None, left + 0.5
