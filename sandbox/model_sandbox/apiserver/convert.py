"""Kinds that are stored once and shown in two forms: Event and HorizontalPodAutoscaler.

Bodies are stored without apiVersion and kind, in the form of the kind's storage version.
"""

from __future__ import annotations

from model_sandbox.apiserver.errors import Obj
from model_sandbox.apiserver.kinds import Kind

_EVENT_NAMES = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_EVENT_BACK = {stored: shown for shown, stored in _EVENT_NAMES.items()}
_CONVERTED = (("Event", "events.k8s.io/v1"), ("HorizontalPodAutoscaler", "autoscaling/v1"))
_PERCENT = "targetCPUUtilizationPercentage"


def is_plain(kind: Kind) -> bool:
    """Whether the stored JSON can be shown as it is."""
    return (kind.kind, kind.api_version) not in _CONVERTED


def to_storage(kind: Kind, body: Obj) -> Obj:
    """A decoded body as it is stored."""
    stored = {name: value for name, value in body.items() if name not in ("apiVersion", "kind")}
    if is_plain(kind):
        return stored
    if kind.kind == "Event":
        return {"source": {}, **{_EVENT_NAMES.get(name, name): value for name, value in stored.items()}}
    spec, status = dict(stored.get("spec") or {}), dict(stored.get("status") or {})
    status.pop("currentCPUUtilizationPercentage", None)
    if _PERCENT in spec:
        target = {"type": "Utilization", "averageUtilization": spec.pop(_PERCENT)}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    return {**stored, "spec": spec, "status": status}


def to_version(kind: Kind, stored: Obj, *, bare: bool = False) -> Obj:
    """A stored body as a version shows it, with apiVersion and kind unless `bare`."""
    body = stored
    if not is_plain(kind) and kind.kind == "Event":
        body = {_EVENT_BACK.get(name, name): value for name, value in stored.items()}
        empty = [name for name in ("reportingController", "reportingInstance") if not body.get(name)]
        body = {name: value for name, value in body.items() if name not in empty}
    elif not is_plain(kind):
        spec, status = dict(stored.get("spec") or {}), dict(stored.get("status") or {})
        spec.pop("behavior", None)
        for metric in spec.pop("metrics", None) or []:
            resource = metric.get("resource") or {}
            if resource.get("name") == "cpu":
                spec[_PERCENT] = resource["target"].get("averageUtilization")
        shown = {name: value for name, value in status.items() if name not in ("currentMetrics", "conditions")}
        body = {**stored, "spec": spec, "status": {"currentReplicas": 0, **shown}}
    return body if bare else {"kind": kind.kind, "apiVersion": kind.api_version, **body}
