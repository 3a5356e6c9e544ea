"""Tables: what `kubectl get` prints, from each kind's columns in `data/kinds.yaml` or its definition."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from model_sandbox.apiserver import jsonpath
from model_sandbox.apiserver.errors import Obj
from model_sandbox.apiserver.kinds import Kind
from model_sandbox.apiserver.selectors import selector_text

NONE, UNKNOWN = "<none>", "<unknown>"
_AGE: Obj = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


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


# --- columns


def definitions(kind: Kind) -> list[Obj]:
    """The column definitions of a kind's Table."""
    name = _definition("Name", "string", "name", 0)
    if kind.custom:
        return [name, *map(_custom_definition, kind.columns or (_AGE,))]
    columns = []
    for text in _with_age(kind):
        title = text.partition(" ")[0]
        plain = title.rstrip("*#").replace("_", " ")
        integer = "#" in title and kind.plural not in ("configmaps", "secrets")
        form = "name" if plain == "Name" else ""
        columns.append(_definition(plain, "integer" if integer else "string", form, int(title.endswith("*"))))
    return columns if kind.plural == "events" else [name, *columns]


def _with_age(kind: Kind) -> list[str]:
    columns = ["Age .metadata.creationTimestamp:age" if one == "AGE" else str(one) for one in kind.columns]
    return columns if "AGE" in kind.columns or kind.bare_columns else [*columns, "Age .metadata.creationTimestamp:age"]


def _definition(name: str, kind: str, form: str, priority: int, description: str = "") -> Obj:
    return {"name": name, "type": kind, "format": form, "description": description, "priority": priority}


def _custom_definition(column: Obj) -> Obj:
    told = column.get("description") or f"Custom resource definition column (in JSONPath format): {column['jsonPath']}"
    return _definition(column["name"], column["type"], column.get("format", ""), column.get("priority", 0), told)


def cells(kind: Kind, body: Obj, now: datetime) -> list[Any]:
    """One row."""
    name = body["metadata"].get("name", "")
    if kind.custom:
        return [name, *(custom_cell(column, body, now) for column in kind.columns or (_AGE,))]
    row = [_cell(text, body, now) for text in _with_age(kind)]
    return row if kind.plural == "events" else [name, *row]


_FIELD = re.compile(r"\{([^|}]*)\|?([^}]*)\}")
_EMPTY_TEXTS = ("Message", "Reason", "Subobject*")
_ZEROS = ("Up-to-date", "Available", "Replicas", "MaxPods")


def _cell(column: str, body: Obj, now: datetime) -> Any:
    """The cell of a built-in kind's column, as `data/kinds.yaml` describes it."""
    title, _, source = column.partition(" ")
    if source.startswith("@"):
        return CELLS[source[1:]](body, now)
    if "{" in source:
        return _FIELD.sub(lambda field: ",".join(map(str, _found(field[1], body))) or field[2], source)
    source, _, form = source.partition(":")
    value = next(iter(_found(source, body)), None)
    if form:
        return _FORMS[form](value, now)
    if value in (None, ""):
        return 0 if title.endswith("#") or title in _ZEROS else "" if title in _EMPTY_TEXTS else NONE
    return str(value) if title == "MinPods" else value


def _found(paths: str, body: Obj) -> list[Any]:
    """What the first of several paths, written with `??` between them, selects."""
    found = (jsonpath.find(path.strip(), body) for path in paths.split("??")) if paths else ()
    return next(filter(None, found), [])


_FORMS: dict[str, Callable[[Any, datetime], Any]] = {
    "age": age,
    "times": lambda value, now: value or 1,
    "selector": lambda value, now: selector_text(value) or NONE,
    "labels": lambda value, now: selector_text({"matchLabels": value or {}}) or NONE,
    "capitals": lambda value, now: ",".join("".join(filter(str.isupper, one)) for one in value or ()),
}


def custom_cell(column: Obj, body: Obj, now: datetime) -> Any:
    """The cell of a column as a CustomResourceDefinition describes it."""
    found = jsonpath.find(column["jsonPath"], body)
    if not found or found[0] is None:
        return None
    value, kind = found[0], column["type"]
    if kind == "date":
        return age(value, now) if isinstance(value, str) else UNKNOWN
    if kind == "string":
        return ",".join(map(_text, found))
    if kind == "boolean" or isinstance(value, bool):
        return value if kind == "boolean" and isinstance(value, bool) else None
    return (int if kind == "integer" else float)(value) if isinstance(value, int | float) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


# --- rules of single columns


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
            "kind": jsonpath.find(".involvedObject.kind", body)[0].lower(),
        }
    ),
    "event_source": _event_source,
    "job_status": _job_status,
    "job_duration": _job_duration,
}


def row(kind: Kind, shown: Obj, now: datetime, include: str) -> Obj:
    """A row of a Table; `include` is the request's includeObject: Metadata, Object or None."""
    meta = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": shown["metadata"]}
    result: Obj = {"cells": cells(kind, shown, now)}
    return result if include == "None" else {**result, "object": shown if include == "Object" else meta}


def table(columns: list[Obj] | None, rows: list[Obj], metadata: Obj) -> Obj:
    """A Table; only the first one of a watch names its columns."""
    body: Obj = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
    return {**body, "columnDefinitions": columns, "rows": rows}


def utc_now() -> datetime:
    """The time for ages."""
    return datetime.now(UTC)
