"""Tables: what `kubectl get` prints, from each kind's columns in `data/kinds.yaml` or its definition."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from model_sandbox.apiserver import jsonpath
from model_sandbox.apiserver.errors import Obj
from model_sandbox.apiserver.kinds import Kind
from model_sandbox.apiserver.selectors import selector_text

Cell = Callable[[Obj, datetime], Any]
NONE, UNKNOWN = "<none>", "<unknown>"


def age(stamp: str | None, now: datetime) -> str:
    """How long ago, as kubectl writes it: 5s, 3m12s, 2h, 4d."""
    if not stamp:
        return UNKNOWN
    try:
        then = datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    except ValueError:
        return "<invalid>"
    return duration((now - then).total_seconds())


def duration(seconds: float) -> str:
    """A duration in at most two units, the shorter the coarser."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    total = max(total, 0)
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if total < 120:
        return f"{total}s"
    if minutes < 10:
        return f"{minutes}m{total % 60}s" if total % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d" if days < 730 else f"{days // 365}y"


def definitions(kind: Kind) -> list[Obj]:
    """The column definitions of a kind's Table."""
    columns = [_definition("Name", "string", "name", 0)]
    if kind.custom:
        for column in kind.columns or ({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},):
            told = str(column.get("description", ""))
            kept = _definition(column["name"], column["type"], column.get("format", ""), column.get("priority", 0))
            columns.append({**kept, "description": told} if told else kept)
        return columns
    if kind.bare_columns and kind.plural == "events":
        columns = []
    for text in _with_age(kind):
        name = text.partition(" ")[0]
        plain = name.rstrip("*#").replace("_", " ")
        integer = "#" in name.removeprefix(plain) and kind.plural not in ("configmaps", "secrets")
        columns.append(_definition(plain, "integer" if integer else "string", "", int(name.endswith("*"))))
    if columns and kind.plural == "events":
        columns[-1]["format"] = "name"
    return columns


def _with_age(kind: Kind) -> list[str]:
    columns = [str(column) for column in kind.columns]
    if "AGE" in columns:
        return ["Age @age" if column == "AGE" else column for column in columns]
    return columns if kind.bare_columns else [*columns, "Age @age"]


def _definition(name: str, kind: str, form: str, priority: int) -> Obj:
    return {"name": name, "type": kind, "format": form, "description": "", "priority": priority}


def cells(kind: Kind, body: Obj, now: datetime) -> list[Any]:
    """One row."""
    name = body["metadata"].get("name", "")
    if kind.custom:
        columns = kind.columns or ({"type": "date", "jsonPath": ".metadata.creationTimestamp"},)
        return [name, *(_custom_cell(column, body, now) for column in columns)]
    row = [] if kind.plural == "events" else [name]
    for text in _with_age(kind):
        title, _, source = text.partition(" ")
        if source.startswith("@"):
            row.append(CELLS[source[1:]](body, now))
        else:
            row.append(
                _FIELD.sub(lambda field: _text_at(field, body), source)
                if "{" in source
                else _plain(source, title, body)
            )
    return row


_FIELD = re.compile(r"\{([^|}]*)\|?([^}]*)\}")


def _text_at(field: re.Match[str], body: Obj) -> str:
    found = jsonpath.find(field[1], body) if field[1] else ()
    return ",".join(map(str, found)) or field[2]


def _plain(source: str, title: str, body: Obj) -> Any:
    found = jsonpath.find(source, body)
    value = found[0] if found else None
    if value in (None, ""):
        zero = title.endswith("#") or title in ("Up-to-date", "Available", "Replicas", "MaxPods")
        return 0 if zero else (NONE if title.rstrip("*#") not in ("Message", "Reason", "Subobject") else "")
    return str(value) if title == "MinPods" else value


def _custom_cell(column: Obj, body: Obj, now: datetime) -> Any:
    found = jsonpath.find(column["jsonPath"], body)
    if not found or found[0] is None:
        return None
    value, kind = found[0], column["type"]
    if kind == "date":
        return age(value, now) if isinstance(value, str) else UNKNOWN
    if kind == "string":
        if len(found) > 1:
            return ",".join(_text(one) for one in found)
        return _text(value)
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "integer":
        return int(value) if good else None
    return float(value) if good else None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(f'"{one}"' if isinstance(one, str) else _text(one) for one in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f'"{key}":{_text(one)}' for key, one in sorted(value.items())) + "}"
    return str(value)


# --- rules of single columns --------------------------------------------------------------------------------


def _pod_status(body: Obj, now: datetime) -> str:
    status = body.get("status") or {}
    told = status.get("reason") or status.get("phase", "Unknown")
    inits = status.get("initContainerStatuses") or []
    for index, container in enumerate(inits):
        state = container.get("state") or {}
        if (state.get("terminated") or {}).get("exitCode") == 0:
            continue
        if "terminated" in state:
            told = f"Init:{state['terminated'].get('reason') or 'Error'}"
        elif (state.get("waiting") or {}).get("reason") not in (None, "", "PodInitializing"):
            told = f"Init:{state['waiting']['reason']}"
        else:
            told = f"Init:{index}/{len(inits)}"
        break
    else:
        told = _containers_status(status, told)
    if body["metadata"].get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return str(told)


def _containers_status(status: Obj, told: str) -> str:
    running = False
    for container in reversed(status.get("containerStatuses") or []):
        state = container.get("state") or {}
        if (state.get("waiting") or {}).get("reason"):
            told = state["waiting"]["reason"]
        elif "terminated" in state:
            ended = state["terminated"]
            told = ended.get("reason") or (
                f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"
            )
        elif container.get("ready") and "running" in state:
            running = True
    if told == "Completed" and running:
        ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or [])
        return "Running" if ready else "NotReady"
    return told


def _pod_ready(body: Obj, now: datetime) -> str:
    statuses = (body.get("status") or {}).get("containerStatuses") or []
    ready = sum(bool(one.get("ready")) for one in statuses)
    return f"{ready}/{len(body['spec'].get('containers') or [])}"


def _pod_restarts(body: Obj, now: datetime) -> str:
    statuses = (body.get("status") or {}).get("containerStatuses") or []
    count = sum(one.get("restartCount", 0) for one in statuses)
    ended = [one.get("lastState", {}).get("terminated", {}).get("finishedAt") for one in statuses]
    last = max(filter(None, ended), default=None)
    return f"{count} ({age(last, now)} ago)" if count and last else str(count)


def _service_ports(body: Obj, now: datetime) -> str:
    texts = []
    for port in body["spec"].get("ports") or []:
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        texts.append(f"{port['port']}{node}/{port.get('protocol', 'TCP')}")
    return ",".join(texts) or NONE


def _service_external(body: Obj, now: datetime) -> str:
    spec = body["spec"]
    if spec.get("type") == "LoadBalancer":
        ingress = (body.get("status") or {}).get("loadBalancer", {}).get("ingress") or []
        return ",".join(one.get("ip") or one.get("hostname", "") for one in ingress) or "<pending>"
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName"))
    return ",".join(spec.get("externalIPs") or []) or NONE


def _endpoints(body: Obj, now: datetime) -> str:
    texts = [
        f"{address['ip']}:{port['port']}"
        for subset in body.get("subsets") or []
        for port in subset.get("ports") or []
        for address in subset.get("addresses") or []
    ]
    more = f" + {len(texts) - 3} more..." if len(texts) > 3 else ""
    return ",".join(texts[:3]) + more or NONE


def _slice_endpoints(body: Obj, now: datetime) -> str:
    found = [address for one in body.get("endpoints") or [] for address in one.get("addresses") or []]
    more = f" + {len(found) - 3} more..." if len(found) > 3 else ""
    return ",".join(found[:3]) + more or "<unset>"


def _node_status(body: Obj, now: datetime) -> str:
    conditions = {one["type"]: one["status"] for one in (body.get("status") or {}).get("conditions") or []}
    told = {"True": "Ready", "False": "NotReady"}.get(conditions.get("Ready", ""), "Unknown")
    return f"{told},SchedulingDisabled" if body.get("spec", {}).get("unschedulable") else told


def _node_roles(body: Obj, now: datetime) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = body["metadata"].get("labels") or {}
    return ",".join(sorted(key.removeprefix(prefix) for key in labels if key.startswith(prefix))) or NONE


def _hpa_targets(body: Obj, now: datetime) -> str:
    current = (body.get("status") or {}).get("currentMetrics") or []
    texts = []
    for index, metric in enumerate(body["spec"].get("metrics") or []):
        source = metric.get(metric["type"].lower()) or {}
        target = source.get("target") or {}
        if metric["type"] != "Resource":
            texts.append(f"<unknown>/{target.get('averageValue') or target.get('value') or '<auto>'}")
            continue
        seen = current[index].get("resource", {}).get("current", {}) if index < len(current) else {}
        if target.get("averageUtilization") is not None:
            now_at = seen.get("averageUtilization")
            shown = UNKNOWN if now_at is None else f"{now_at}%"
            texts.append(f"{source['name']}: {shown}/{target['averageUtilization']}%")
        else:
            texts.append(f"{source['name']}: {seen.get('averageValue', UNKNOWN)}/{target.get('averageValue')}")
    return ", ".join(texts) or NONE


def _event_seen(body: Obj, now: datetime) -> str:
    series = body.get("series") or {}
    last = series.get("lastObservedTime") or body.get("lastTimestamp") or body.get("eventTime")
    return age(last or body["metadata"].get("creationTimestamp"), now)


def _event_first(body: Obj, now: datetime) -> str:
    return age(body.get("firstTimestamp") or body.get("eventTime") or body["metadata"]["creationTimestamp"], now)


def _event_object(body: Obj, now: datetime) -> str:
    target = body.get("involvedObject") or {}
    return f"{target.get('kind', '').lower()}/{target.get('name', '')}"


def _event_source(body: Obj, now: datetime) -> str:
    source = body.get("source") or {}
    named = source.get("component") or body.get("reportingComponent") or ""
    return ", ".join(filter(None, (named, source.get("host"))))


def _job_status(body: Obj, now: datetime) -> str:
    conditions = {one["type"] for one in body.get("status", {}).get("conditions") or [] if one["status"] == "True"}
    return next((one for one in ("Complete", "Failed", "Suspended") if one in conditions), "Running")


def _job_duration(body: Obj, now: datetime) -> str:
    status = body.get("status") or {}
    if not status.get("startTime"):
        return ""
    ended = status.get("completionTime")
    until = datetime.fromisoformat(ended.replace("Z", "+00:00")) if ended else now
    return age(status["startTime"], until)


CELLS: dict[str, Cell] = {
    "age": lambda body, now: age(body["metadata"].get("creationTimestamp"), now),
    "pod_status": _pod_status,
    "pod_ready": _pod_ready,
    "pod_restarts": _pod_restarts,
    "service_ports": _service_ports,
    "service_external": _service_external,
    "map_selector": lambda body, now: (
        ",".join(f"{key}={value}" for key, value in sorted((body["spec"].get("selector") or {}).items())) or NONE
    ),
    "selector": lambda body, now: selector_text(body["spec"].get("selector")) or NONE,
    "pod_selector": lambda body, now: selector_text(body.get("spec", {}).get("podSelector")) or NONE,
    "data_count": lambda body, now: len(body.get("data") or {}) + len(body.get("binaryData") or {}),
    "endpoints": _endpoints,
    "slice_endpoints": _slice_endpoints,
    "access_modes": lambda body, now: ",".join(
        "".join(letter for letter in mode if letter.isupper()) for mode in body["spec"].get("accessModes") or []
    ),
    "node_status": _node_status,
    "node_roles": _node_roles,
    "hpa_targets": _hpa_targets,
    "event_seen": _event_seen,
    "event_first": _event_first,
    "event_object": _event_object,
    "event_source": _event_source,
    "event_count": lambda body, now: (body.get("series") or {}).get("count") or body.get("count") or 1,
    "job_status": _job_status,
    "job_duration": _job_duration,
}


def row(kind: Kind, shown: Obj, now: datetime, include: str) -> Obj:
    """A row of a Table; `include` is the request's includeObject: Metadata, Object or None."""
    result: Obj = {"cells": cells(kind, shown, now)}
    if include == "Object":
        result["object"] = shown
    elif include != "None":
        meta = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": shown["metadata"]}
        result["object"] = meta
    return result


def table(columns: list[Obj] | None, rows: list[Obj], metadata: Obj) -> Obj:
    """A Table; only the first one of a watch names its columns."""
    body: Obj = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
    return {**body, "columnDefinitions": columns, "rows": rows}


def utc_now() -> datetime:
    """The time for ages."""
    return datetime.now(UTC)
