"""The Deployment, the Service and the list of a ModelPool. Pure.

The list is a ConfigMap that the pods mount. It is no part of the pod template: a change restarts nothing.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson

from model_operator.api.names import APPLIED_HASH, POOL, PROTECTS_METRICS, SCHEME, list_name, pool_labels
from model_operator.api.pool import ModelPool, PooledModel
from model_operator.api.shadow import DIGEST_VARIABLE
from model_operator.api.spec import Model
from model_operator.errors import InvalidSpec
from model_operator.manifests.drift import content_hash
from model_operator.manifests.monitoring import API_VERSION, SERVICE_MONITOR, endpoints
from model_operator.manifests.pods import CLAIM_DIR, PodSettings, pod_template
from model_operator.manifests.strategic_merge import overlay
from model_operator.manifests.workload import budget_spec, service_spec

Body = dict[str, Any]

LIST_DIR = "/etc/modeldeploy/pool"
LIST_FILE = "models.json"
#: What a ConfigMap may hold is 1 MiB, with its names.
_MOST_BYTES = 1_000_000
#: Settings of a server of one model that a pool has as well.
_TAKEN = frozenset(
    f"MODEL_SERVER_{name}"
    for name in (
        "NAME",
        "HOST",
        "PORT",
        "MODEL_DIR",
        "CREDENTIALS_DIR",
        "AUTH_DIR",
        "AUTH_PROTECT",
        "AUTH_LIMITS",
        "CA_FILE",
        "SIGNATURE_PUBLIC_KEY",
        "SIGNATURE_IDENTITY",
        "SIGNATURE_ISSUER",
        "GRPC_PORT",
        "TLS_DIR",
        "LOG_LEVEL",
        "REQUEST_TIMEOUT_SECONDS",
        "TERMINATION_LOG",
        "NAMESPACE",
    )
)


def pool_objects(pool: ModelPool, settings: PodSettings) -> list[Body]:
    """Return the objects that a pool serves with, the list first.

    Raises:
        InvalidSpec: the list is too long for a ConfigMap.
    """
    selector = {POOL: pool.name}
    deployment = {
        "replicas": pool.spec.replicas,
        "selector": {"matchLabels": selector},
        "revisionHistoryLimit": 1,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": template_of(pool, settings),
    }
    server = pool.server
    service = service_spec(selector, {server.scheme}, server.grpc_port)
    return [
        _owned(pool, "v1", "ConfigMap", list_name(pool.name), {"data": {LIST_FILE: listed(pool)}}),
        _owned(pool, "apps/v1", "Deployment", pool.name, {"spec": deployment}),
        _owned(pool, "v1", "Service", pool.name, {"spec": service}),
    ]


def beside(pool: ModelPool, settings: PodSettings) -> list[Body]:
    """Return the objects that a pool serves without: its disruption budget, and what tells Prometheus of it."""
    selector = {POOL: pool.name}
    found = []
    if pool.spec.replicas > 1:
        found.append(_owned(pool, "policy/v1", "PodDisruptionBudget", pool.name, {"spec": budget_spec(selector)}))
    if pool.spec.monitoring.service_monitor:
        server = pool.server
        scraped = endpoints({server.scheme}, server.auth_secret_name, pool.spec.monitoring.scrape_key)
        content = {"spec": {"selector": {"matchLabels": selector}, "endpoints": scraped}}
        labels = dict(settings.monitoring_labels)
        found.append(_owned(pool, API_VERSION, SERVICE_MONITOR, pool.name, content, labels))
    return found


def listed(pool: ModelPool) -> str:
    """Return the list as the servers read it (docs/server.md)."""
    text = orjson.dumps({"models": [_entry(one) for one in pool.spec.models]})
    if len(text) > _MOST_BYTES:
        raise InvalidSpec(
            f"spec.models: the list has {len(text)} bytes, and a ConfigMap holds {_MOST_BYTES}; make several pools"
        )
    return text.decode()


def _entry(model: PooledModel) -> Body:
    fields = {
        "name": model.name,
        "storageUri": model.storage_uri,
        "format": model.format,
        "version": model.version,
        "sha256": model.sha256,
        "trusted": model.trusted or None,
        "concurrency": model.concurrency,
    }
    return {name: value for name, value in fields.items() if value is not None and value != "auto"}


def template_of(pool: ModelPool, settings: PodSettings) -> Body:
    """Return the pod template: the pod of a server with other arguments, and the list in place of a model."""
    server = pool.server
    template = pod_template(pool.key, "", _model(pool), server, settings)
    pod = template["spec"]
    (container,) = pod["containers"]
    names = {entry["name"] for entry in server.env} | _TAKEN | {"TMPDIR"}
    if "metrics" in server.protected:
        # The operator asks with its token.
        names |= {DIGEST_VARIABLE}
    variables = [entry for entry in container["env"] if entry["name"] in names]
    container["env"] = [*_variables(pool), *variables]
    container["args"] = ["pool"]
    container["ports"] = [one for one in container["ports"] if one["name"] != "shadow"]
    container["volumeMounts"].append({"name": "models", "mountPath": LIST_DIR, "readOnly": True})
    pod["volumes"].append({"name": "models", "configMap": {"name": list_name(pool.name)}})
    _add_claims(pool, container, pod)
    said = {name: value for name, value in template["metadata"]["labels"].items() if name in (SCHEME, PROTECTS_METRICS)}
    merged: Body = overlay({"spec": pod}, pool.spec.server.pod_template)
    # The overlay cannot change the labels of the selector: the API server would reject the Deployment.
    merged.setdefault("metadata", {}).setdefault("labels", {}).update(pool_labels(pool.name) | said)
    return merged


def _model(pool: ModelPool) -> Model:
    """Return what all models of a pool have in common. Its URI is none: what a pod makes of it is left out."""
    spec = pool.spec
    return Model(storage_uri="file:///", secret_name=spec.secret_name, ca=spec.ca, signature=spec.signature)


def _variables(pool: ModelPool) -> list[Body]:
    spec = pool.spec
    values = {
        "MODELS": f"{LIST_DIR}/{LIST_FILE}",
        "MEMORY_BYTES": spec.memory_bytes,
        "PROCESSES": spec.processes,
        "MODEL_CONCURRENCY": spec.model_concurrency,
        "PRELOAD": spec.preload,
    }
    return [{"name": f"MODEL_SERVER_POOL_{name}", "value": str(value)} for name, value in values.items()]


def _add_claims(pool: ModelPool, container: Body, pod: Body) -> None:
    """Mount the claims that models lie on; they are few, whatever the number of models."""
    uris = [model.storage_uri for model in pool.spec.models if model.storage_uri.startswith("pvc://")]
    for claim in sorted({uri.removeprefix("pvc://").partition("/")[0] for uri in uris}):
        name = f"claim-{content_hash({'claim': claim})[:8]}"
        pod["volumes"].append({"name": name, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}})
        container["volumeMounts"].append({"name": name, "mountPath": f"{CLAIM_DIR}/{claim}", "readOnly": True})


def _owned(
    pool: ModelPool,
    api_version: str,
    kind: str,
    name: str,
    content: Mapping[str, Any],
    labels: Mapping[str, str] = MappingProxyType({}),
) -> Body:
    body: Body = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": pool.key.namespace,
            "labels": {**labels, **pool_labels(pool.name)},
            "annotations": {},
            "ownerReferences": [pool.owner_reference],
        },
        **content,
    }
    body["metadata"]["annotations"][APPLIED_HASH] = content_hash(body)
    return body
