"""What the API server does for single built-in kinds beyond their schema: values that depend on others,
fields that clients do not own, and rules of validation.

Three tables at the end say which function serves which kind; `resources.py` calls them. All are pure except
for what they ask of `Surroundings`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from model_sandbox.apiserver.errors import (
    Cause,
    Obj,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from model_sandbox.apiserver.metadata import dns_label_errors, label_causes
from model_sandbox.apiserver.schema import DecodeError
from model_sandbox.apiserver.selectors import match_selector
from model_sandbox.quantity import parse_quantity


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a rule may ask of the server."""

    now: str
    allocate_ip: Callable[[str, str], str]  # ("" for any, the Service's name); raises 422
    allocate_port: Callable[[], int]
    token_suffix: Callable[[], str]
    name: str = ""


def pods_of(body: Obj) -> tuple[str, Obj] | None:
    """The pod spec within an object and its path."""
    spec = body.get("spec") or {}
    if "containers" in spec:
        return "spec", spec
    template = spec.get("template")
    if isinstance(template, dict) and isinstance(template.get("spec"), dict):
        return "spec.template.spec", template["spec"]
    return None


def _pod_spec_values(spec: Obj) -> None:
    for container in [*spec.get("initContainers", []), *spec.get("containers", [])]:
        image = container.get("image", "")
        last = image.rsplit("/", 1)[-1]
        tagged = "@" in last or (":" in last and not last.endswith(":latest"))
        container.setdefault("imagePullPolicy", "IfNotPresent" if tagged else "Always")
        probes = [container.get(f"{name}Probe") or {} for name in ("liveness", "readiness", "startup")]
        hooks = [(container.get("lifecycle") or {}).get(name) or {} for name in ("preStop", "postStart")]
        for action in [*probes, *hooks]:
            if "httpGet" in action:
                action["httpGet"].setdefault("path", "/")
    for volume in spec.get("volumes", []):
        if len(volume) == 1:
            volume["emptyDir"] = {}
    if spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    elif spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"]


TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
_TOLERATIONS = [
    {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    for key in ("not-ready", "unreachable")
]


def _pod(body: Obj, around: Surroundings) -> None:
    spec = body["spec"]
    spec.setdefault("serviceAccountName", "default")
    _pod_spec_values(spec)
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    held = spec.setdefault("tolerations", [])
    keys = {toleration.get("key") for toleration in held}
    held.extend(dict(one) for one in _TOLERATIONS if one["key"] not in keys)
    for container in [*spec.get("initContainers", []), *spec.get("containers", [])]:
        resources = container["resources"]
        if resources.get("limits"):
            resources["requests"] = {**resources["limits"], **resources.get("requests", {})}
    mounted = any(
        mount.get("mountPath") == TOKEN_PATH
        for container in spec.get("containers", [])
        for mount in container.get("volumeMounts", [])
    )
    if spec.get("automountServiceAccountToken", True) and not mounted and spec.get("containers"):
        _mount_token(spec, around.token_suffix())
    body["status"] = {"phase": "Pending", "qosClass": quality_of_service(spec)}


def _mount_token(spec: Obj, suffix: str) -> None:
    name = f"kube-api-access-{suffix}"
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"downwardAPI": {"items": [namespace]}},
    ]
    spec.setdefault("volumes", []).append({"name": name, "projected": {"sources": sources, "defaultMode": 420}})
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        mount = {"name": name, "readOnly": True, "mountPath": TOKEN_PATH}
        container.setdefault("volumeMounts", []).append(mount)


def quality_of_service(spec: Obj) -> str:
    """Guaranteed, Burstable or BestEffort, from requests and limits of cpu and memory."""
    containers = [*spec.get("initContainers", []), *spec.get("containers", [])]
    resources = [container.get("resources", {}) for container in containers]
    if not any(one.get("requests") or one.get("limits") for one in resources):
        return "BestEffort"
    names = ("cpu", "memory")
    guaranteed = all(
        name in one.get("limits", {})
        and one.get("requests", one["limits"]).get(name, one["limits"][name]) == one["limits"][name]
        for one in resources
        for name in names
    )
    return "Guaranteed" if guaranteed else "Burstable"


def _template(body: Obj, around: Surroundings) -> None:
    found = pods_of(body)
    if found is not None:
        _pod_spec_values(found[1])


def _deployment(body: Obj, around: Surroundings) -> None:
    _template(body, around)
    strategy = body["spec"]["strategy"]
    if strategy.get("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")


def _replica_set(body: Obj, around: Surroundings) -> None:
    _template(body, around)
    labels = body["spec"].get("template", {}).get("metadata", {}).get("labels")
    if labels:
        body["spec"].setdefault("selector", {"matchLabels": dict(labels)})
        body["metadata"].setdefault("labels", dict(labels))


def _job(body: Obj, around: Surroundings) -> None:
    _template(body, around)
    spec, uid = body["spec"], body["metadata"].get("uid", "")
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    if not spec.get("manualSelector") and uid:
        labels = {
            "batch.kubernetes.io/controller-uid": uid,
            "batch.kubernetes.io/job-name": body["metadata"]["name"],
            "controller-uid": uid,
            "job-name": body["metadata"]["name"],
        }
        metadata = spec["template"].setdefault("metadata", {})
        metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
        spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}


def _service(body: Obj, around: Surroundings) -> None:
    spec = body["spec"]
    for port in spec.get("ports", []):
        port.setdefault("targetPort", port.get("port"))
    if spec.get("sessionAffinity") == "ClientIP":
        affinity = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        affinity.setdefault("timeoutSeconds", 10800)
    if spec.get("type") == "ExternalName":
        return
    spec.setdefault("internalTrafficPolicy", "Cluster")
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    asked = spec.get("clusterIP", "")
    if asked != "None" and not spec.get("clusterIPs") and spec.get("type") in ("ClusterIP", "NodePort", "LoadBalancer"):
        got = around.allocate_ip(asked, around.name)
        if got:
            spec["clusterIP"] = got
    if spec.get("clusterIP"):
        spec.setdefault("clusterIPs", [spec["clusterIP"]])
    if spec.get("type") in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
        for port in spec.get("ports", []):
            if not port.get("nodePort"):
                port["nodePort"] = around.allocate_port()
    if spec.get("type") == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    for ingress in ((body.get("status") or {}).get("loadBalancer") or {}).get("ingress", []):
        if ingress.get("ip"):
            ingress.setdefault("ipMode", "VIP")


def _secret(body: Obj, around: Surroundings) -> None:
    texts = body.pop("stringData", None)
    for key, text in (texts or {}).items():
        body.setdefault("data", {})[key] = base64.b64encode(text.encode()).decode()


def _namespace(body: Obj, around: Surroundings) -> None:
    metadata = body["metadata"]
    metadata.setdefault("labels", {})["kubernetes.io/metadata.name"] = metadata.get("name", "")
    body["spec"] = {"finalizers": ["kubernetes"]}
    body["status"] = {"phase": "Active"}


_SCALE_UP = [
    {"type": "Pods", "value": 4, "periodSeconds": 15},
    {"type": "Percent", "value": 100, "periodSeconds": 15},
]
_SCALE_DOWN = [{"type": "Percent", "value": 100, "periodSeconds": 15}]


def _hpa(body: Obj, around: Surroundings) -> None:
    spec = body["spec"]
    target = {"type": "Utilization", "averageUtilization": 80}
    spec.setdefault("metrics", [{"type": "Resource", "resource": {"name": "cpu", "target": target}}])
    behavior = spec.get("behavior")
    if behavior is not None:
        up, down = behavior.setdefault("scaleUp", {}), behavior.setdefault("scaleDown", {})
        up.setdefault("stabilizationWindowSeconds", 0)
        for rules, policies in ((up, _SCALE_UP), (down, _SCALE_DOWN)):
            rules.setdefault("selectPolicy", "Max")
            rules.setdefault("policies", [dict(policy) for policy in policies])


_RBAC = "rbac.authorization.k8s.io"


def _binding(body: Obj, around: Surroundings) -> None:
    body.setdefault("roleRef", {})["apiGroup"] = body.get("roleRef", {}).get("apiGroup") or _RBAC
    for subject in body.get("subjects", []):
        if subject.get("kind") in ("User", "Group"):
            subject["apiGroup"] = subject.get("apiGroup") or _RBAC


def _claim(body: Obj, around: Surroundings) -> None:
    body["status"] = {"phase": "Pending"}


def _definition(body: Obj, around: Surroundings) -> None:
    spec = body["spec"]
    names = spec.setdefault("names", {})
    if names.get("kind"):
        names.setdefault("listKind", f"{names['kind']}List")
        if not names.get("singular"):
            names["singular"] = names["kind"].lower()
    spec.setdefault("conversion", {}).setdefault("strategy", "None")
    for version in spec.get("versions") or []:
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if isinstance(schema, dict):
            version["schema"]["openAPIV3Schema"] = tidy_schema(schema)
    stored = [version["name"] for version in spec.get("versions") or [] if version.get("storage")]
    status = body.setdefault("status", {})
    status["storedVersions"] = list(dict.fromkeys([*(status.get("storedVersions") or []), *stored]))


def tidy_schema(schema: Any) -> Any:
    """An OpenAPI schema without empty members, as Kubernetes writes it back."""
    if not isinstance(schema, dict):
        return schema
    result: Obj = {}
    for name, value in schema.items():
        if name == "properties":
            value = {key: tidy_schema(sub) for key, sub in (value or {}).items()}
        elif name in ("items", "additionalProperties", "not"):
            value = tidy_schema(value)
        elif name in ("allOf", "anyOf", "oneOf"):
            value = [tidy_schema(sub) for sub in value or []]
        empty = value is None or value in ({}, [], "") or value is False
        if not empty or name in ("default", "example", "additionalProperties", "x-kubernetes-preserve-unknown-fields"):
            result[name] = value
    return result


# --- validation ------------------------------------------------------------------------------------------


def _pod_spec_causes(spec: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    volumes = {volume.get("name") for volume in spec.get("volumes", [])}
    seen: set[str] = set()
    for group in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(group, [])):
            where = f"{path}.{group}[{index}]"
            name = container.get("name", "")
            if name in seen:
                causes.append(duplicate(f"{where}.name", name))
            elif name:
                causes += [invalid_value(f"{where}.name", name, why) for why in dns_label_errors(name)]
            seen.add(name)
            if not container.get("image"):
                causes.append(required(f"{where}.image"))
            causes += _container_causes(container, where, volumes)
    return causes


def _container_causes(container: Obj, where: str, volumes: set[Any]) -> list[Cause]:
    causes: list[Cause] = []
    for index, port in enumerate(container.get("ports", [])):
        causes += _port_causes(port.get("containerPort"), f"{where}.ports[{index}].containerPort")
    for index, mount in enumerate(container.get("volumeMounts", [])):
        if mount.get("name") and mount["name"] not in volumes:
            field = f"{where}.volumeMounts[{index}].name"
            causes.append(Cause("FieldValueNotFound", field, f'Not found: "{mount["name"]}"'))
    resources = container.get("resources", {})
    limits = resources.get("limits", {})
    for name, asked in resources.get("requests", {}).items():
        if name in limits and parse_quantity(asked) > parse_quantity(limits[name]):
            why = f"must be less than or equal to {name} limit of {limits[name]}"
            causes.append(invalid_value(f"{where}.resources.requests", str(asked), why))
    return causes


def _port_causes(port: Any, path: str) -> list[Cause]:
    if isinstance(port, int) and not 1 <= port <= 65535:
        return [invalid_value(path, port, "must be between 1 and 65535, inclusive")]
    return []


_PERCENT = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', "
    "regex used for validation is '[0-9]+%')"
)


def _count_or_percent(value: Any, path: str) -> list[Cause]:
    if isinstance(value, str) and not re.fullmatch(r"[0-9]+%", value):
        return [invalid_value(path, value, _PERCENT)]
    if isinstance(value, int) and value < 0:
        return [invalid_value(path, value, "must be greater than or equal to 0")]
    return []


def _not_negative(spec: Obj, names: tuple[str, ...]) -> list[Cause]:
    why = "must be greater than or equal to 0"
    return [invalid_value(f"spec.{name}", spec[name], why) for name in names if (spec.get(name) or 0) < 0]


def _workload_causes(body: Obj, old: Obj | None) -> list[Cause]:
    spec = body["spec"]
    causes = _not_negative(spec, ("replicas", "minReadySeconds", "revisionHistoryLimit"))
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    causes += label_causes(labels, "spec.template.metadata.labels")
    if not match_selector(spec.get("selector"), labels):
        why = "`selector` does not match template `labels`"
        causes.append(invalid_value("spec.template.metadata.labels", labels, why))
    pod_spec = template.get("spec") or {}
    policy = pod_spec.get("restartPolicy", "Always")
    if policy != "Always" and policy in ("OnFailure", "Never"):
        causes.append(not_supported("spec.template.spec.restartPolicy", policy, ["Always"]))
    causes += _pod_spec_causes(pod_spec, "spec.template.spec")
    if old is not None and old["spec"].get("selector") != spec.get("selector"):
        return [*causes, invalid_value("spec.selector", spec.get("selector"), "field is immutable")]
    return causes


def _deployment_causes(body: Obj, old: Obj | None) -> list[Cause]:
    causes = _workload_causes(body, old)
    spec = body["spec"]
    strategy = spec["strategy"]
    rolling = strategy.get("rollingUpdate")
    where = "spec.strategy.rollingUpdate"
    if strategy.get("type") == "Recreate" and rolling:
        why = "may not be specified when strategy `type` is 'Recreate'"
        causes.append(forbidden_field(where, why))
    elif rolling:
        unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
        causes += _count_or_percent(unavailable, f"{where}.maxUnavailable")
        causes += _count_or_percent(surge, f"{where}.maxSurge")
        if unavailable in (0, "0%") and surge in (0, "0%"):
            why = "may not be 0 when `maxSurge` is 0"
            causes.append(invalid_value(f"{where}.maxUnavailable", unavailable, why))
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and deadline <= spec.get("minReadySeconds", 0):
        why = "must be greater than minReadySeconds"
        causes.append(invalid_value("spec.progressDeadlineSeconds", deadline, why))
    return causes


def _job_causes(body: Obj, old: Obj | None) -> list[Cause]:
    pod_spec = body["spec"].get("template", {}).get("spec") or {}
    causes = _pod_spec_causes(pod_spec, "spec.template.spec")
    if pod_spec.get("restartPolicy") not in ("OnFailure", "Never"):
        shown = pod_spec.get("restartPolicy")
        causes.append(not_supported("spec.template.spec.restartPolicy", shown, ["OnFailure", "Never"]))
    if old is not None and old["spec"].get("template") != body["spec"].get("template"):
        causes.append(invalid_value("spec.template", None, "field is immutable"))
    return causes


_POD_MAY = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def _pod_causes(body: Obj, old: Obj | None) -> list[Cause]:
    spec = body["spec"]
    causes = _pod_spec_causes(spec, "spec")
    if old is not None and _frozen(spec) != _frozen(old["spec"]):
        causes.append(forbidden_field("spec", _POD_MAY))
    return causes


def _frozen(spec: Obj) -> Obj:
    frozen = {key: value for key, value in spec.items() if key not in ("activeDeadlineSeconds", "tolerations")}
    for group in ("containers", "initContainers"):
        if group in spec:
            frozen[group] = [{**container, "image": ""} for container in spec[group]]
    return frozen


def _service_causes(body: Obj, old: Obj | None) -> list[Cause]:
    spec = body["spec"]
    causes: list[Cause] = []
    ports = spec.get("ports", [])
    if not ports and spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None":
        causes.append(required("spec.ports"))
    if spec.get("type") == "ExternalName" and not spec.get("externalName"):
        causes.append(required("spec.externalName"))
    names: set[str] = set()
    for index, port in enumerate(ports):
        where = f"spec.ports[{index}]"
        name = port.get("name", "")
        if len(ports) > 1 and not name:
            causes.append(required(f"{where}.name"))
        if name and name in names:
            causes.append(duplicate(f"{where}.name", name))
        names.add(name)
        causes += _port_causes(port.get("port"), f"{where}.port")
        causes += _port_causes(port.get("targetPort"), f"{where}.targetPort")
    ips = spec.get("clusterIPs")
    if old is not None:
        before = old["spec"].get("clusterIPs")
        if before and (ips != before or spec.get("clusterIP") != before[0]):
            shown = [spec.get("clusterIP")]
            causes.append(invalid_value("spec.clusterIPs[0]", shown, "may not change once set"))
    return causes


_SECRET_KEYS = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


def _data_causes(body: Obj, old: Obj | None) -> list[Cause]:
    causes: list[Cause] = []
    for key in body.get("data") or {}:
        if not re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key):
            why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
            causes.append(invalid_value(f"data[{key}]", key, why))
    if old is not None and old.get("immutable"):
        why = "field is immutable when `immutable` is set"
        if not body.get("immutable"):
            causes.append(forbidden_field("immutable", why))
        causes += [forbidden_field(name, why) for name in ("data", "binaryData") if body.get(name) != old.get(name)]
    return causes


def _secret_causes(body: Obj, old: Obj | None) -> list[Cause]:
    causes: list[Cause] = []
    if old is not None and body.get("type") != old.get("type"):
        causes.append(invalid_value("type", body.get("type"), "field is immutable"))
    for key in _SECRET_KEYS.get(body.get("type", ""), ()):
        if key not in (body.get("data") or {}):
            causes.append(required(f"data[{key}]"))
    return [*causes, *_data_causes(body, old)]


def check_bytes(body: Obj) -> None:
    """Base64 of `data` and `binaryData`; raises DecodeError as the decoder does."""
    for name in ("data", "binaryData"):
        for text in (body.get(name) or {}).values():
            try:
                base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                raise DecodeError("illegal base64 data at input byte 0") from None


def _hpa_causes(body: Obj, old: Obj | None) -> list[Cause]:
    spec, causes = body["spec"], []
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas", 0)
    if least < 1:
        causes.append(invalid_value("spec.minReplicas", least, "must be greater than or equal to 1"))
    if most < 1:
        causes.append(required("spec.maxReplicas", "must be set and greater than 0"))
    if most < least:
        causes.append(invalid_value("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    if not spec.get("scaleTargetRef", {}).get("apiVersion"):
        field = "spec.scaleTargetRef.apiVersion"
        causes.append(invalid_value(field, "", "apiVersion must specify API group"))
    metrics = spec.get("metrics", [])
    for index, metric in enumerate(metrics):
        source = metric.get(metric.get("type", "").lower()) or {}
        target = source.get("target")
        where = f"spec.metrics[{index}].{metric.get('type', '').lower()}.target"
        if target is None:
            continue
        if target.get("type") not in ("Utilization", "Value", "AverageValue"):
            why = "must be either Utilization, Value, or AverageValue"
            causes.append(invalid_value(f"{where}.type", target.get("type"), why))
        if not any(target.get(name) is not None for name in ("averageUtilization", "averageValue", "value")):
            why = "must set either a target raw value or a target utilization"
            causes.append(required(f"{where}.averageUtilization", why))
    if least == 0 and not any(metric.get("type") in ("Object", "External") for metric in metrics):
        why = "must specify at least one Object or External metric to support scaling to zero replicas"
        causes.append(forbidden_field("spec.metrics", why))
    return causes


def _budget_causes(body: Obj, old: Obj | None) -> list[Cause]:
    spec, causes = body["spec"], []
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        why = "minAvailable and maxUnavailable cannot be both set"
        causes.append(invalid_value("spec", spec, why))
    for name in ("minAvailable", "maxUnavailable"):
        causes += _count_or_percent(spec.get(name), f"spec.{name}")
    return causes


def _lease_causes(body: Obj, old: Obj | None) -> list[Cause]:
    spec = body.get("spec") or {}
    seconds, causes = spec.get("leaseDurationSeconds"), []
    if seconds is not None and seconds <= 0:
        causes.append(invalid_value("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    if (spec.get("leaseTransitions") or 0) < 0:
        why = "must be greater than or equal to 0"
        causes.append(invalid_value("spec.leaseTransitions", spec["leaseTransitions"], why))
    return causes


def _binding_causes(body: Obj, old: Obj | None) -> list[Cause]:
    if old is not None and old.get("roleRef") != body.get("roleRef"):
        return [invalid_value("roleRef", body.get("roleRef"), "cannot change roleRef")]
    return []


def _event_causes(body: Obj, old: Obj | None) -> list[Cause]:
    causes = []
    namespace = (body.get("involvedObject") or {}).get("namespace") or "default"
    if namespace != body["metadata"].get("namespace"):
        causes.append(invalid_value("involvedObject.namespace", namespace, "does not match event.namespace"))
    return causes


def event_series_causes(body: Obj) -> list[Cause]:
    """What events.k8s.io asks for beyond the core form of an event."""
    causes = []
    if not body.get("eventTime"):
        causes.append(required("eventTime"))
    if body.get("type") not in ("Normal", "Warning"):
        causes.append(invalid_value("type", body.get("type", ""), f"has invalid value: {body.get('type', '')}"))
    return causes


def _slice_causes(body: Obj, old: Obj | None) -> list[Cause]:
    known = ["FQDN", "IPv4", "IPv6"]
    if body.get("addressType") not in known:
        return [not_supported("addressType", body.get("addressType"), known)]
    return []


Prepare = Callable[[Obj, Surroundings], None]
Validate = Callable[[Obj, Obj | None], list[Cause]]

# On create and on every later write.
PREPARE: dict[str, Prepare] = {
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "StatefulSet": _template,
    "Job": _job,
    "Service": _service,
    "Secret": _secret,
    "HorizontalPodAutoscaler": _hpa,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
    "CustomResourceDefinition": _definition,
}
# On create alone.
PREPARE_NEW: dict[str, Prepare] = {"Pod": _pod, "Namespace": _namespace, "PersistentVolumeClaim": _claim}
VALIDATE: dict[str, Validate] = {
    "Pod": _pod_causes,
    "Deployment": _deployment_causes,
    "ReplicaSet": _workload_causes,
    "StatefulSet": _workload_causes,
    "Job": _job_causes,
    "Service": _service_causes,
    "Secret": _secret_causes,
    "ConfigMap": _data_causes,
    "HorizontalPodAutoscaler": _hpa_causes,
    "PodDisruptionBudget": _budget_causes,
    "Lease": _lease_causes,
    "RoleBinding": _binding_causes,
    "ClusterRoleBinding": _binding_causes,
    "EndpointSlice": _slice_causes,
    "Event": _event_causes,
}
