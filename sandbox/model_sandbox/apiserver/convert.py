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


def to_storage(kind: Kind, body: Obj) -> Obj:
    """A decoded body as it is stored."""
    stored = {name: value for name, value in body.items() if name not in ("apiVersion", "kind")}
    if kind.group == "events.k8s.io":
        stored = {_EVENT_NAMES.get(name, name): value for name, value in stored.items()}
        stored.setdefault("source", {})
    elif kind.group == "autoscaling" and kind.version == "v1":
        stored = _hpa_to_v2(stored)
    return stored


def to_version(kind: Kind, stored: Obj, *, bare: bool = False) -> Obj:
    """A stored body as a version shows it, with apiVersion and kind unless `bare`."""
    body = stored
    if kind.group == "events.k8s.io":
        body = {_EVENT_BACK.get(name, name): value for name, value in stored.items()}
        for name in ("reportingController", "reportingInstance"):
            if not body.get(name):
                body.pop(name, None)
    elif kind.group == "autoscaling" and kind.version == "v1":
        body = _hpa_to_v1(stored)
    return body if bare else {"kind": kind.kind, "apiVersion": kind.api_version, **body}


def is_plain(kind: Kind) -> bool:
    """Whether the stored JSON can be shown as it is."""
    return kind.group != "events.k8s.io" and not (kind.group == "autoscaling" and kind.version == "v1")


def _hpa_to_v2(body: Obj) -> Obj:
    spec = dict(body.get("spec") or {})
    percent = spec.pop("targetCPUUtilizationPercentage", None)
    if percent is not None:
        target = {"type": "Utilization", "averageUtilization": percent}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    status = dict(body.get("status") or {})
    status.pop("currentCPUUtilizationPercentage", None)
    return {**body, "spec": spec, "status": status}


def _hpa_to_v1(body: Obj) -> Obj:
    spec = dict(body.get("spec") or {})
    spec.pop("behavior", None)
    for metric in spec.pop("metrics", None) or []:
        resource = metric.get("resource") or {}
        if resource.get("name") == "cpu":
            spec["targetCPUUtilizationPercentage"] = resource["target"].get("averageUtilization")
    status = dict(body.get("status") or {})
    for name in ("currentMetrics", "conditions"):
        status.pop(name, None)
    return {**body, "spec": spec, "status": {"currentReplicas": 0, **status}}
