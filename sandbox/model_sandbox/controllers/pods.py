"""Questions about pods that several controllers ask. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from model_sandbox.client import Obj
from model_sandbox.controllers.base import parse_time

_COST = "controller.kubernetes.io/pod-deletion-cost"


def condition(body: Obj, name: str) -> Obj | None:
    """A condition of an object's status."""
    conditions = (body.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one["type"] == name), None)


def is_ready(pod: Obj) -> bool:
    """Whether the pod's Ready condition is True."""
    found = condition(pod, "Ready")
    return found is not None and found["status"] == "True"


def is_terminating(pod: Obj) -> bool:
    """Whether the pod is being deleted."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def is_finished(pod: Obj) -> bool:
    """Whether the pod will not run again."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_active(pod: Obj) -> bool:
    """Whether the pod counts as a replica."""
    return not is_terminating(pod) and not is_finished(pod)


def available_in(pod: Obj, min_ready: int, now: datetime) -> float | None:
    """Seconds until a ready pod counts as available (0: it does); None while it is not ready."""
    if not is_ready(pod):
        return None
    since = (condition(pod, "Ready") or {}).get("lastTransitionTime")
    if not min_ready or not since:
        return 0 if not min_ready else float(min_ready)
    return max(0.0, (parse_time(since) + timedelta(seconds=min_ready) - now).total_seconds())


def deletion_rank(pod: Obj) -> tuple[bool, int, bool, int, str]:
    """Which pods to take away first: unscheduled, pending, not ready, cheap to delete, then the youngest."""
    phase = {"Pending": 0, "Unknown": 1, "Running": 2}.get((pod.get("status") or {}).get("phase", "Pending"), 2)
    cost = (pod["metadata"].get("annotations") or {}).get(_COST, "0")
    # A later time is a greater text; its complement sorts the youngest first.
    youth = "".join(chr(255 - ord(one)) for one in pod["metadata"]["creationTimestamp"])
    number = int(cost) if cost.lstrip("+-").isdecimal() else 0
    return bool(pod["spec"].get("nodeName")), phase, is_ready(pod), number, youth
