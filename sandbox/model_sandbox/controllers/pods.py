"""Pods of ReplicaSets and Jobs: what is asked about them, and how they are made. Pure but for `create` and `delete`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from model_sandbox.client import ApiFailure, Obj
from model_sandbox.controllers.base import PODS, World, condition, owner_reference, parse_time, status_of

_COST = "controller.kubernetes.io/pod-deletion-cost"


def is_ready(pod: Obj) -> bool:
    """Whether the Ready condition of a pod, or a node, is True."""
    return (condition(pod, "Ready") or {}).get("status") == "True"


def is_terminating(body: Obj) -> bool:
    """Whether an object is being deleted."""
    return bool(body["metadata"].get("deletionTimestamp"))


def is_finished(pod: Obj) -> bool:
    """Whether the pod will not run again."""
    return status_of(pod).get("phase") in ("Succeeded", "Failed")


def is_active(pod: Obj) -> bool:
    """Whether the pod counts as a replica."""
    return not is_terminating(pod) and not is_finished(pod)


def available_in(pod: Obj, min_ready: int, now: datetime) -> float | None:
    """Seconds until a ready pod counts as available (0: it does); None while it is not ready."""
    if not is_ready(pod):
        return None
    since = (condition(pod, "Ready") or {}).get("lastTransitionTime")
    passed = now - parse_time(since) if since else timedelta()
    return max(0.0, min_ready - passed.total_seconds()) if min_ready else 0.0


def deletion_rank(pod: Obj) -> tuple[bool, int, bool, int, float]:
    """Which pods to take away first: unscheduled, pending, not ready, cheap to delete, then the youngest."""
    phase = {"Pending": 0, "Unknown": 1}.get(status_of(pod).get("phase", "Pending"), 2)
    cost = (pod["metadata"].get("annotations") or {}).get(_COST, "0")
    number = int(cost) if cost.lstrip("+-").isdecimal() else 0
    age = -parse_time(pod["metadata"]["creationTimestamp"]).timestamp()
    return bool(pod["spec"].get("nodeName")), phase, is_ready(pod), number, age


async def create(world: World, owner: Obj, change: Callable[[Obj], Obj] = lambda pod: pod) -> None:
    """Make a pod from its owner's template."""
    template = owner["spec"]["template"]
    given = template.get("metadata") or {}
    metadata: Obj = {name: given[name] for name in ("labels", "annotations", "finalizers") if given.get(name)}
    metadata["generateName"] = f"{owner['metadata']['name']}-"
    metadata["namespace"] = owner["metadata"]["namespace"]
    metadata["ownerReferences"] = [owner_reference(owner)]
    try:
        pod = await world.create(PODS, change({"metadata": metadata, "spec": template["spec"]}))
    except ApiFailure as failure:
        told = f"Error creating: {failure.body.get('message', failure)}"
        await world.event(owner, "FailedCreate", told, warning=True)
        raise
    await world.event(owner, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")


async def delete(world: World, owner: Obj, pod: Obj) -> None:
    """Take a pod away."""
    if await world.delete(PODS, pod):
        await world.event(owner, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")
