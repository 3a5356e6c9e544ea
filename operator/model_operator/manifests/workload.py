"""The objects of a model: Deployment, Service and autoscaler of each revision; front Service and disruption budget."""

import functools
from collections.abc import Mapping, Sequence, Set
from typing import Any

import orjson

from model_operator.api.names import (
    RENDERED_BY,
    REVISION,
    REVISION_SPEC,
    ROLE,
    STABLE_SPEC,
    TEMPLATE,
    consumers_name,
    pod_selector,
    revision_name,
    versions_name,
)
from model_operator.api.quantities import canonical_quantity
from model_operator.api.resource import ModelDeployment, ObjectKey
from model_operator.api.spec import Autoscaling, parse_model, parse_server
from model_operator.manifests.drift import content_hash
from model_operator.manifests.metadata import owned_object
from model_operator.manifests.pods import CONSUMERS_FILE, RENDERER, VERSIONS_FILE, PodSettings, pod_template

Body = dict[str, Any]

#: Average CPU use that an autoscaler without any target aims at, in percent of the request.
DEFAULT_CPU_PERCENT = 70
#: Pod metric of the custom metrics API behind `spec.autoscaling.targetRequestsPerSecond`: the rate of the servers'
#: `modeldeploy_requests_total` (docs/rollouts.md has the rule for prometheus-adapter).
REQUESTS_PER_SECOND = "modeldeploy_requests_per_second"
#: External metric behind `spec.autoscaling.targetStreamLag`: one number for all pods, as the servers report it.
STREAM_LAG = "modeldeploy_stream_lag"


@functools.lru_cache(maxsize=4)
def rendered_by(settings: PodSettings) -> str:
    """Name the renderer together with the settings that go into a pod template."""
    return f"{RENDERER}-{content_hash({'settings': repr(settings)})}"


def deployment(
    owner: ModelDeployment,
    revision: str,
    source: Mapping[str, Any],
    *,
    replicas: int,
    role: str,
    settings: PodSettings,
    live: Mapping[str, Any] | None,
) -> Body:
    """Return the Deployment of a revision.

    Args:
        source: the revision's part of the spec (`model` and `server`), possibly of an older spec.
        live: the live Deployment. One of another renderer keeps the pod template that was applied then
            (its annotation has a copy): an upgrade of the operator restarts no pod, and foreign changes
            are still corrected.
    """
    maker = rendered_by(settings)
    kept = (live["metadata"].get("annotations") or {}) if live is not None else {TEMPLATE: ""}
    template = revision_template(owner.key, revision, source, settings)
    if live is not None and kept.get(RENDERED_BY, maker) != maker:
        maker = kept[RENDERED_BY]
        template = orjson.loads(kept[TEMPLATE]) if kept.get(TEMPLATE) else live["spec"]["template"]
    # Deployments of the first release have no copy of their template; adding one would write to all of them at once.
    copy = {TEMPLATE: source_text(template)} if TEMPLATE in kept else {}
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": dict(pod_selector(owner.name, revision))},
        "minReadySeconds": int(owner.spec.min_ready.total_seconds()),
        "progressDeadlineSeconds": max(
            int(owner.spec.progress_deadline.total_seconds()), int(owner.spec.min_ready.total_seconds()) + 1
        ),
        "revisionHistoryLimit": 1,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": template,
    }
    return owned_object(
        owner,
        "apps/v1",
        "Deployment",
        revision_name(owner.name, revision),
        {"spec": spec},
        labels={REVISION: revision, ROLE: role},
        annotations={RENDERED_BY: maker, REVISION_SPEC: source_text(source), **copy},
    )


def revision_template(key: ObjectKey, revision: str, source: Mapping[str, Any], settings: PodSettings) -> Body:
    """Return the pod template that a new Deployment of a revision gets."""
    model, server = parse_model(source["model"]), parse_server(source["server"], source.get("monitoring"))
    return pod_template(key, revision, model, server, settings)


def source_text(source: Mapping[str, Any]) -> str:
    """Return a revision's part of the spec as its objects store it."""
    return orjson.dumps(source, option=orjson.OPT_SORT_KEYS).decode()


def revision_service(owner: ModelDeployment, revision: str, source: Mapping[str, Any]) -> Body:
    """Return the Service of one revision. Like the Deployment, it stores the spec of the revision."""
    server = parse_server(source["server"])
    return owned_object(
        owner,
        "v1",
        "Service",
        revision_name(owner.name, revision),
        {"spec": service_spec(pod_selector(owner.name, revision), {server.scheme}, server.grpc_port)},
        labels={REVISION: revision},
        annotations={REVISION_SPEC: source_text(source)},
    )


def front_service(
    owner: ModelDeployment,
    name: str,
    revision: str | None,
    schemes: Set[str],
    *,
    stable: tuple[str, Mapping[str, Any]] | None = None,
) -> Body:
    """Return a Service in front of one revision, or of all of them.

    Args:
        revision: the revision that it selects, None for all.
        schemes: schemes of the revisions; during a change to HTTPS, each has its own port.
        stable: name and source of the stable revision, to store in an annotation.
    """
    spec = service_spec(pod_selector(owner.name, revision), schemes, owner.spec.server.grpc_port)
    annotations = {STABLE_SPEC: source_text({"revision": stable[0], "source": stable[1]})} if stable else {}
    return owned_object(owner, "v1", "Service", name, {"spec": spec}, annotations=annotations)


def autoscaler(owner: ModelDeployment, revision: str, scaling: Autoscaling, *, least: int) -> Body:
    """Return the HorizontalPodAutoscaler of one revision; `least` is its lower bound."""
    name = revision_name(owner.name, revision)
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": max(1, min(least, scaling.max_replicas)),
        "maxReplicas": scaling.max_replicas,
        "metrics": [dict(metric) for metric in scaling.metrics] or _target_metrics(owner.name, scaling),
    }
    if scaling.behavior:
        spec["behavior"] = dict(scaling.behavior)
    labels = {REVISION: revision}
    return owned_object(owner, "autoscaling/v2", "HorizontalPodAutoscaler", name, {"spec": spec}, labels=labels)


def _target_metrics(name: str, scaling: Autoscaling) -> list[Body]:
    """Return the metrics of the targets, CPU first, which is the order in which autoscaling/v1 keeps them."""
    cpu, memory, rate = scaling.target_cpu_percent, scaling.target_memory_percent, scaling.target_requests_per_second
    lag = scaling.target_stream_lag
    if cpu is None and memory is None and rate is None and lag is None:
        cpu = DEFAULT_CPU_PERCENT
    metrics = [_utilization(name, percent) for name, percent in (("cpu", cpu), ("memory", memory)) if percent]
    if rate is not None:
        target = {"type": "AverageValue", "averageValue": canonical_quantity(f"{rate:.3f}")}
        metrics.append({"type": "Pods", "pods": {"metric": {"name": REQUESTS_PER_SECOND}, "target": target}})
    if lag is not None:
        target = {"type": "AverageValue", "averageValue": canonical_quantity(str(lag))}
        metric = {"name": STREAM_LAG, "selector": {"matchLabels": {"model": name}}}
        metrics.append({"type": "External", "external": {"metric": metric, "target": target}})
    return metrics


def _utilization(name: str, percent: int) -> Body:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": name, "target": target}}


def consumers(owner: ModelDeployment, revisions: Sequence[str]) -> Body:
    """Return the ConfigMap that tells the pods of a model which revisions consume messages.

    Its content changes under running pods, and a pod that starts while the operator is away finds it as well: labels
    of pods would need a write for each pod, and a pod template would restart them.
    """
    content = {"data": {CONSUMERS_FILE: "".join(f"{revision}\n" for revision in revisions)}}
    return owned_object(owner, "v1", "ConfigMap", consumers_name(owner.name), content)


def versions(owner: ModelDeployment, by_revision: Mapping[str, str]) -> Body:
    """Return the ConfigMap that tells pods which version of a registered model their revision is of.

    The first revision of an alias learns it from its own pods, so that no pod template can have it.
    """
    text = "".join(f"{revision} {version}\n" for revision, version in sorted(by_revision.items()))
    return owned_object(owner, "v1", "ConfigMap", versions_name(owner.name), {"data": {VERSIONS_FILE: text}})


def disruption_budget(owner: ModelDeployment) -> Body:
    """Return the PodDisruptionBudget of a model with several pods: one pod of all revisions may be evicted at a time.

    Pods that are not ready may always be evicted: otherwise a model that never becomes ready would block node drains
    (https://kubernetes.io/docs/tasks/run-application/configure-pdb/#unhealthy-pod-eviction-policy).
    """
    content = {"spec": budget_spec(pod_selector(owner.name))}
    return owned_object(owner, "policy/v1", "PodDisruptionBudget", owner.name, content)


def budget_spec(selector: Mapping[str, str]) -> Body:
    """Return the spec of a PodDisruptionBudget that lets one pod at a time be evicted."""
    labels = {"matchLabels": dict(selector)}
    return {"maxUnavailable": 1, "selector": labels, "unhealthyPodEvictionPolicy": "AlwaysAllow"}


def service_spec(selector: Mapping[str, str], schemes: Set[str], grpc_port: int | None) -> Body:
    """Return the spec of a Service of pods that speak these schemes, and gRPC where it has a port."""
    ports: list[Body] = []
    if "http" in schemes:
        ports.append({"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"})
    if "https" in schemes:
        ports.append({"name": "https", "port": 443, "protocol": "TCP", "targetPort": "https", "appProtocol": "https"})
    if grpc_port:
        grpc = {"name": "grpc", "port": grpc_port, "protocol": "TCP", "targetPort": "grpc"}
        ports.append(grpc if "https" in schemes else {**grpc, "appProtocol": "kubernetes.io/h2c"})
    return {"type": "ClusterIP", "selector": dict(selector), "ports": ports}
