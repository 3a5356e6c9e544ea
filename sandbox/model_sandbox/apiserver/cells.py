"""Cells of Tables that are more than a value: each a function of an object and the time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from model_sandbox.apiserver import jsonpath
from model_sandbox.apiserver.errors import Obj

NONE, UNKNOWN = "<none>", "<unknown>"


def age(stamp: str | None, now: datetime) -> str:
    """How long ago, as kubectl writes it: 5s, 3m12s, 2h, 4d."""
    if not stamp:
        return UNKNOWN
    try:
        return duration((now - datetime.fromisoformat(stamp.replace("Z", "+00:00"))).total_seconds())
    except ValueError:
        return "<invalid>"


def duration(seconds: float) -> str:
    """A duration in at most two units, the shorter the coarser."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    total = max(total, 0)
    if total < 120:
        return f"{total}s"
    # Up to this many of a unit the next smaller one is shown too, up to that many the unit at all.
    for unit, smaller, size, fine, most in (
        ("m", "s", 60, 10, 180),
        ("h", "m", 3600, 8, 48),
        ("d", "h", 86400, 8, 730),
    ):
        count, rest = divmod(total, size)
        if count < most:
            part = rest * {"m": 60, "h": 60, "d": 24}[unit] // size
            return f"{count}{unit}{part}{smaller}" if count < fine and part else f"{count}{unit}"
    return f"{total // 86400 // 365}y"


def _pod_status(body: Obj, now: datetime) -> str:
    status = body.get("status") or {}
    told = str(status.get("reason") or status.get("phase", "Unknown"))
    inits = status.get("initContainerStatuses") or []
    ended = [(one.get("state") or {}).get("terminated", {}).get("exitCode") == 0 for one in inits]
    if all(ended):
        told = _containers_status(status, told)
    else:
        index = ended.index(False)
        state = inits[index].get("state") or {}
        waiting = (state.get("waiting") or {}).get("reason") or "PodInitializing"
        why = f"{index}/{len(inits)}" if waiting == "PodInitializing" else waiting
        told = f"Init:{(state['terminated'].get('reason') or 'Error') if 'terminated' in state else why}"
    if body["metadata"].get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return told


def _containers_status(status: Obj, told: str) -> str:
    running = False
    for container in reversed(status.get("containerStatuses") or []):
        state = container.get("state") or {}
        ended = state.get("terminated")
        if (state.get("waiting") or {}).get("reason"):
            told = state["waiting"]["reason"]
        elif ended is not None:
            by = f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"
            told = ended.get("reason") or by
        elif container.get("ready") and "running" in state:
            running = True
    if told == "Completed" and running:
        ready = jsonpath.find('.conditions[?(@.type=="Ready")].status', status)
        return "Running" if ready == ["True"] else "NotReady"
    return told


def _pod_ready(body: Obj, now: datetime) -> str:
    ready = jsonpath.find(".status.containerStatuses[*].ready", body).count(True)
    return f"{ready}/{len(body['spec'].get('containers') or [])}"


def _pod_restarts(body: Obj, now: datetime) -> str:
    count = sum(jsonpath.find(".status.containerStatuses[*].restartCount", body))
    last = max(jsonpath.find(".status.containerStatuses[*].lastState.terminated.finishedAt", body), default=None)
    return f"{count} ({age(last, now)} ago)" if count and last else str(count)


def _service_ports(body: Obj, now: datetime) -> str:
    ports = body["spec"].get("ports") or []
    nodes = [f":{port['nodePort']}" if port.get("nodePort") else "" for port in ports]
    texts = [f"{port['port']}{at}/{port.get('protocol', 'TCP')}" for port, at in zip(ports, nodes, strict=True)]
    return ",".join(texts) or NONE


def _service_external(body: Obj, now: datetime) -> str:
    spec = body["spec"]
    if spec.get("type") == "LoadBalancer":
        ingress = jsonpath.find(".status.loadBalancer.ingress[*]", body)
        return ",".join(one.get("ip") or one.get("hostname", "") for one in ingress) or "<pending>"
    return spec.get("externalName") or ",".join(spec.get("externalIPs") or []) or NONE


def _endpoints(body: Obj, now: datetime) -> str:
    return (
        _first_three(
            f"{address['ip']}:{port['port']}"
            for subset in body.get("subsets") or []
            for port in subset.get("ports") or []
            for address in subset.get("addresses") or []
        )
        or NONE
    )


def _first_three(texts: Any) -> str:
    found = list(texts)
    return ",".join(found[:3]) + (f" + {len(found) - 3} more..." if len(found) > 3 else "")


def _node_status(body: Obj, now: datetime) -> str:
    ready = jsonpath.find('.status.conditions[?(@.type=="Ready")].status', body)
    told = {"True": "Ready", "False": "NotReady"}.get(ready[0] if ready else "", "Unknown")
    return f"{told},SchedulingDisabled" if body.get("spec", {}).get("unschedulable") else told


def _node_roles(body: Obj, now: datetime) -> str:
    prefix, labels = "node-role.kubernetes.io/", body["metadata"].get("labels") or {}
    return ",".join(sorted(key.removeprefix(prefix) for key in labels if key.startswith(prefix))) or NONE


def _hpa_targets(body: Obj, now: datetime) -> str:
    current = (body.get("status") or {}).get("currentMetrics") or []
    texts = []
    for index, metric in enumerate(body["spec"].get("metrics") or []):
        source = metric.get(metric["type"].lower()) or {}
        target = source.get("target") or {}
        if metric["type"] != "Resource":
            texts.append(f"{UNKNOWN}/{target.get('averageValue') or target.get('value') or '<auto>'}")
            continue
        seen = current[index].get("resource", {}).get("current", {}) if index < len(current) else {}
        percent = target.get("averageUtilization")
        name, sign = ("averageValue", "") if percent is None else ("averageUtilization", "%")
        shown = f"{seen[name]}{sign}" if name in seen else UNKNOWN
        texts.append(f"{source['name']}: {shown}/{target.get(name)}{sign}")
    return ", ".join(texts) or NONE


def _job_status(body: Obj, now: datetime) -> str:
    true = jsonpath.find('.status.conditions[?(@.status=="True")].type', body)
    return next((one for one in ("Complete", "Failed", "Suspended") if one in true), "Running")


def _job_duration(body: Obj, now: datetime) -> str:
    status = body.get("status") or {}
    ended = status.get("completionTime")
    until = datetime.fromisoformat(ended.replace("Z", "+00:00")) if ended else now
    return age(status["startTime"], until) if status.get("startTime") else ""


def _event_source(body: Obj, now: datetime) -> str:
    source = body.get("source") or {}
    named = source.get("component") or body.get("reportingComponent") or ""
    return ", ".join(filter(None, (named, source.get("host"))))


CELLS: dict[str, Callable[[Obj, datetime], Any]] = {
    "pod_status": _pod_status,
    "pod_ready": _pod_ready,
    "pod_restarts": _pod_restarts,
    "service_ports": _service_ports,
    "service_external": _service_external,
    "data_count": lambda body, now: len(body.get("data") or {}) + len(body.get("binaryData") or {}),
    "endpoints": _endpoints,
    "slice_endpoints": lambda body, now: _first_three(jsonpath.find(".endpoints[*].addresses[*]", body)) or "<unset>",
    "node_status": _node_status,
    "node_roles": _node_roles,
    "hpa_targets": _hpa_targets,
    "event_object": lambda body, now: "{kind}/{name}".format_map(
        {
            "name": "",
            **(body.get("involvedObject") or {}),
            "kind": ((body.get("involvedObject") or {}).get("kind") or "").lower(),
        }
    ),
    "event_source": _event_source,
    "job_status": _job_status,
    "job_duration": _job_duration,
}
