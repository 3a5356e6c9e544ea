"""One revision's objects: Deployment, Service, autoscaler and disruption budget, all under one name."""

import functools
from collections.abc import Mapping, Set
from typing import Any

import orjson

from model_operator.api.names import (
    RENDERED_BY,
    REVISION,
    REVISION_SPEC,
    ROLE,
    STABLE_SPEC,
    pod_selector,
    revision_name,
)
from model_operator.api.resource import ModelDeployment
from model_operator.api.spec import Autoscaling, parse_model, parse_server
from model_operator.manifests.drift import content_hash
from model_operator.manifests.metadata import owned_object
from model_operator.manifests.pods import RENDERER, PodSettings, pod_template

Body = dict[str, Any]


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
        source: the revision's part of the spec (`model` and `server`), which may be an older spec's.
        live: the Deployment as it is. One that another renderer made keeps its pod template: a
            revision's pods are not restarted because the operator was upgraded.
    """
    maker = rendered_by(settings)
    template = pod_template(
        owner.name,
        revision,
        parse_model(source["model"]),
        parse_server(source["server"], source.get("monitoring")),
        settings,
    )
    if live is not None:
        live_maker = (live["metadata"].get("annotations") or {}).get(RENDERED_BY, maker)
        if live_maker != maker:
            maker, template = live_maker, live["spec"]["template"]
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
        annotations={RENDERED_BY: maker, REVISION_SPEC: source_text(source)},
    )


def source_text(source: Mapping[str, Any]) -> str:
    """Return a revision's part of the spec as its objects remember it."""
    return orjson.dumps(source, option=orjson.OPT_SORT_KEYS).decode()


def revision_service(owner: ModelDeployment, revision: str, source: Mapping[str, Any]) -> Body:
    """Return the Service of one revision. Like the Deployment it remembers what the revision was made from."""
    server = parse_server(source["server"])
    return owned_object(
        owner,
        "v1",
        "Service",
        revision_name(owner.name, revision),
        {"spec": _service_spec(pod_selector(owner.name, revision), {server.scheme}, server.grpc_port)},
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
        schemes: what the revisions speak: during a change to HTTPS each is reached at its own port.
        stable: name and source of the stable revision, to be kept in an annotation.
    """
    spec = _service_spec(pod_selector(owner.name, revision), schemes, owner.spec.server.grpc_port)
    annotations = {STABLE_SPEC: source_text({"revision": stable[0], "source": stable[1]})} if stable else {}
    return owned_object(owner, "v1", "Service", name, {"spec": spec}, annotations=annotations)


def autoscaler(owner: ModelDeployment, revision: str, scaling: Autoscaling, *, least: int) -> Body:
    """Return the HorizontalPodAutoscaler of one revision; `least` is its lower bound."""
    metrics = [dict(metric) for metric in scaling.metrics] or [
        {
            "type": "Resource",
            "resource": {
                "name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": scaling.target_cpu_percent},
            },
        }
    ]
    name = revision_name(owner.name, revision)
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": max(1, min(least, scaling.max_replicas)),
        "maxReplicas": scaling.max_replicas,
        "metrics": metrics,
    }
    labels = {REVISION: revision}
    return owned_object(owner, "autoscaling/v2", "HorizontalPodAutoscaler", name, {"spec": spec}, labels=labels)


def disruption_budget(owner: ModelDeployment, revision: str) -> Body:
    """Return the PodDisruptionBudget of a revision with several pods: one may go at a time."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": dict(pod_selector(owner.name, revision))}}
    labels = {REVISION: revision}
    name = revision_name(owner.name, revision)
    return owned_object(owner, "policy/v1", "PodDisruptionBudget", name, {"spec": spec}, labels=labels)


def _service_spec(selector: Mapping[str, str], schemes: Set[str], grpc_port: int | None) -> Body:
    ports: list[Body] = []
    if "http" in schemes:
        ports.append({"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"})
    if "https" in schemes:
        ports.append({"name": "https", "port": 443, "protocol": "TCP", "targetPort": "https", "appProtocol": "https"})
    if grpc_port:
        grpc = {"name": "grpc", "port": grpc_port, "protocol": "TCP", "targetPort": "grpc"}
        ports.append(grpc if "https" in schemes else {**grpc, "appProtocol": "kubernetes.io/h2c"})
    return {"type": "ClusterIP", "selector": dict(selector), "ports": ports}
