"""The pod template of one revision: the model server with its settings, probes, volumes and limits."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from model_operator.api.names import (
    PROTECTS_METRICS,
    REVISION,
    SCHEME,
    consumers_name,
    own_labels,
    pod_selector,
    versions_name,
)
from model_operator.api.pod_template import SERVER_CONTAINER
from model_operator.api.resource import ObjectKey
from model_operator.api.shadow import DIGEST_VARIABLE, shadow_token, token_digest
from model_operator.api.source import moving_model, registered_model
from model_operator.api.spec import CertificateAuthority, DataQuality, KeyLimit, Model, PublicKey, Server
from model_operator.api.stream import Stream
from model_operator.manifests.metered import metered_spec
from model_operator.manifests.strategic_merge import overlay

Body = dict[str, Any]

#: Increase it with every change of what this file renders for the same revision: Deployments of an older
#: renderer then keep their template, so that an upgrade of the operator restarts no pod.
RENDERER = "4"

PORT = 8080
#: Port of the recent predictions of servers, for comparing revisions; not part of a Service.
SHADOW_PORT = 8089
MODEL_DIR = "/var/lib/modeldeploy"
CREDENTIALS_DIR = "/var/run/secrets/modeldeploy/storage"
AUTH_DIR = "/var/run/secrets/modeldeploy/auth"
CA_DIR = "/var/run/secrets/modeldeploy/ca"
STREAM_DIR = "/var/run/secrets/modeldeploy/stream"
STREAM_TLS_DIR = "/var/run/secrets/modeldeploy/stream-tls"
#: The ConfigMap that names the revisions which consume messages, as a file.
CONSUMERS_DIR = "/etc/modeldeploy/stream"
CONSUMERS_FILE = "revisions"
#: The ConfigMap with the version in its registry that each revision is of, as a file.
VERSIONS_DIR = "/etc/modeldeploy/registry"
VERSIONS_FILE = "versions"
TLS_DIR = "/var/run/secrets/modeldeploy/tls"
PUBLIC_KEY_DIR = "/var/run/secrets/modeldeploy/signature"
CLAIM_DIR = "/mnt/claims"
#: The image that is the package, as a volume.
IMAGE_DIR = "/mnt/image"
IMAGE_VOLUME = "package"
CACHE_DIR = "/var/cache/modeldeploy"
TERMINATION_LOG = "/dev/termination-log"
#: `nonroot` of distroless images; the Dockerfile makes the same user.
USER = 65532


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    """Settings of the operator for all pods: the default image, pull secrets, and the propagation time of endpoints.

    `pre_stop_seconds`: time that a pod keeps serving after its deletion; at least as long as changes of
    endpoints take to reach every node.
    """

    image: str
    image_pull_secrets: tuple[str, ...] = ()
    pre_stop_seconds: int = 5
    #: Secret of the operator from which the tokens of pods are made, and what tells it from another without telling it.
    token_secret: bytes = field(default=b"", repr=False)
    token_secret_id: str = ""
    #: Labels of ServiceMonitors and PrometheusRules, not of pods: they do not change the pod template.
    monitoring_labels: tuple[tuple[str, str], ...] = field(default=(), repr=False)


def pod_template(key: ObjectKey, revision: str, model: Model, server: Server, settings: PodSettings) -> Body:
    """Return the pod template of a revision.

    Raises nothing: the API server rejects an invalid result, with the name of the field.
    """
    name = key.name
    pull_secrets = [{"name": secret} for secret in settings.image_pull_secrets]
    template: Body = {
        "metadata": {"labels": {**own_labels(name), REVISION: revision}},
        "spec": {
            "containers": [_container(key, revision, model, server, settings)],
            "volumes": _volumes(key.name, model, server),
            "terminationGracePeriodSeconds": grace_seconds(server, settings),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **({"imagePullSecrets": pull_secrets} if pull_secrets else {}),
        },
    }
    if server.container is not None:
        # The meter reads no storage: it gets neither credentials nor volumes.
        bare = Model(version=model.version or server.container.tag or None)
        meter = _container(key, revision, bare, server, settings)
        template["spec"] = metered_spec(
            template["spec"], meter, server.container, scheme=server.scheme, port=PORT, uri=model.storage_uri
        )
    merged: Body = overlay(template, server.pod_template)
    # The overlay cannot change the labels of the selector: the API server would reject the Deployment.
    labels = merged.setdefault("metadata", {}).setdefault("labels", {})
    labels.update(pod_selector(name, revision))
    if server.tls_secret_name:
        labels[SCHEME] = server.scheme
    if "metrics" in server.protected:
        labels[PROTECTS_METRICS] = "true"
    return merged


def pod_url(pod: Mapping[str, Any], port: int) -> str:
    """Return the URL of a pod's server, such as `http://10.0.0.7:8080`; empty while the pod has no address."""
    address = (pod.get("status") or {}).get("podIP", "")
    if not address:
        return ""
    scheme = pod["metadata"]["labels"].get(SCHEME, "http")
    return f"{scheme}://[{address}]:{port}" if ":" in address else f"{scheme}://{address}:{port}"


def protects_metrics(pod: Mapping[str, Any]) -> bool:
    """Whether the metrics of a pod's server are read with the token of its model."""
    return bool(pod["metadata"]["labels"].get(PROTECTS_METRICS) == "true")


def grace_seconds(server: Server, settings: PodSettings) -> int:
    """Return the termination grace period in seconds: time to keep serving, to finish open requests, and a margin."""
    return settings.pre_stop_seconds + math.ceil(server.request_timeout.total_seconds()) + 5


def _container(key: ObjectKey, revision: str, model: Model, server: Server, settings: PodSettings) -> Body:
    container: Body = {
        "name": SERVER_CONTAINER,
        "image": server.image or settings.image,
        "ports": _ports(server),
        "env": _environment(key, revision, model, server)
        + _shadow_token(key, settings)
        + [dict(entry) for entry in server.env],
        "resources": dict(server.resources),
        "volumeMounts": _mounts(model, server),
        "startupProbe": _probe(server.scheme, "/livez", period=1, failures=120),
        "readinessProbe": _probe(server.scheme, "/readyz", period=1, failures=2),
        "livenessProbe": _probe(server.scheme, "/livez", period=10, failures=6),
        "lifecycle": {"preStop": {"sleep": {"seconds": settings.pre_stop_seconds}}},
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if server.image_pull_policy:
        container["imagePullPolicy"] = server.image_pull_policy
    if model.secret_name:
        container["envFrom"] = [{"secretRef": {"name": model.secret_name}}]
    return container


def _ports(server: Server) -> list[Body]:
    ports: list[Body] = [{"name": server.scheme, "containerPort": PORT, "protocol": "TCP"}]
    ports.append({"name": "shadow", "containerPort": SHADOW_PORT, "protocol": "TCP"})
    if server.grpc_port:
        ports.append({"name": "grpc", "containerPort": server.grpc_port, "protocol": "TCP"})
    return ports


def _probe(scheme: str, path: str, *, period: int, failures: int) -> Body:
    # HTTP is the default: writing it would change, and restart, every existing pod.
    explicit = {"scheme": scheme.upper()} if scheme != "http" else {}
    return {
        "httpGet": {"path": path, "port": scheme, **explicit},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _environment(key: ObjectKey, revision: str, model: Model, server: Server) -> list[Body]:
    log, drift = server.input_log, server.drift
    public_key, identity = model.signature.public_key, model.signature.identity
    values: Mapping[str, Any] = {
        "STORAGE_URI": model.storage_uri or None,
        "FORMAT": model.format,
        "VERSION": model.version,
        "SHA256": model.sha256,
        "TRUSTED": model.trusted,
        "SIGNATURE_PUBLIC_KEY": public_key and f"{PUBLIC_KEY_DIR}/{public_key.key}",
        "SIGNATURE_IDENTITY": identity and identity.subject,
        "SIGNATURE_ISSUER": identity and identity.issuer,
        "INSTALL_REQUIREMENTS": model.install_requirements,
        "NAME": key.name,
        "REVISION": revision,
        "HOST": "0.0.0.0",  # noqa: S104 -- a pod's own network namespace
        "PORT": PORT,
        "GRPC_PORT": server.grpc_port,
        "SHADOW_PORT": SHADOW_PORT,
        "POLL_SECONDS": _seconds(model.poll_interval),
        "MODEL_DIR": MODEL_DIR,
        "CACHE_DIR": CACHE_DIR if model.cache_claim or model.cache_path else None,
        "IMAGE_DIR": IMAGE_DIR if model.image else None,
        "REGISTERED_VERSIONS": f"{VERSIONS_DIR}/{VERSIONS_FILE}" if moving_model(model.storage_uri) else None,
        "CREDENTIALS_DIR": CREDENTIALS_DIR if model.secret_name else None,
        "CA_FILE": f"{CA_DIR}/ca.crt" if model.ca else None,
        "AUTH_DIR": AUTH_DIR if server.auth_secret_name else None,
        "AUTH_PROTECT": ",".join(sorted(server.protected)) or None,
        "AUTH_LIMITS": ",".join(sorted(map(_key_limit, server.key_limits))) or None,
        "TLS_DIR": TLS_DIR if server.tls_secret_name else None,
        "WORKERS": server.workers,
        "LOG_LEVEL": server.log_level,
        "REQUEST_TIMEOUT_SECONDS": math.ceil(server.request_timeout.total_seconds()),
        "MAX_REQUEST_BYTES": server.max_request_bytes,
        "MAX_BATCH_SIZE": server.max_batch_size,
        "MAX_BATCH_DELAY_MILLISECONDS": server.max_batch_delay_milliseconds,
        "INPUT_LOG_SAMPLE_RATE": log and log.sample_rate,
        "INPUT_LOG_REDACT": log and (",".join(log.redact) or None),
        "INPUT_LOG_SINK": log and log.sink,
        "DRIFT_REFERENCE": drift and drift.reference,
        "DRIFT_THRESHOLD": drift and drift.threshold,
        "DATA_QUALITY": server.data_quality is not None or None,
        "DATA_QUALITY_LIMITS": server.data_quality and _quality_limits(server.data_quality),
        "SLICES": ",".join(sorted(f"{one.name}:{one.max_groups}" for one in server.slices)) or None,
        "ESTIMATED_QUALITY": server.estimated_quality or None,
        "ACCELERATE": None if server.accelerate == "none" else server.accelerate,
        "TERMINATION_LOG": TERMINATION_LOG,
        **(_stream(key, server.stream) if server.stream else {}),
    }
    fixed = [
        {"name": f"MODEL_SERVER_{key}", "value": _text(value)} for key, value in values.items() if value is not None
    ]
    namespace = {
        "name": "MODEL_SERVER_NAMESPACE",
        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
    }
    # MLflow's name has no prefix: packages of plug-ins and MLflow's own tools read it as well.
    registered = registered_model(model.storage_uri)
    variable = "MODEL_REGISTRY_URL" if registered and registered.registry == "kubeflow" else "MLFLOW_TRACKING_URI"
    registry = [{"name": variable, "value": model.registry.url}] if model.registry else []
    # The root file system is read-only: temporary files go beside the model.
    return [*fixed, namespace, {"name": "TMPDIR", "value": MODEL_DIR}, *registry]


def _quality_limits(quality: DataQuality) -> str:
    limits = {problem: getattr(quality.limits, problem) for problem in quality.limits.__struct_fields__}
    # The server reads nine digits.
    shares = {problem: min(max(share, 1e-9), 1 - 1e-9) for problem, share in limits.items()}
    return ",".join(f"{problem}:{share:.9f}".rstrip("0") for problem, share in shares.items())


def _stream(key: ObjectKey, stream: Stream) -> Mapping[str, Any]:
    return {
        "STREAM_URL": stream.url,
        "STREAM_INPUT": stream.input,
        "STREAM_OUTPUT": stream.output,
        "STREAM_DEAD_LETTER": stream.dead_letter,
        "STREAM_GROUP": stream.group_of(key.namespace, key.name),
        "STREAM_CONCURRENCY": stream.concurrency,
        "STREAM_MAX_DELIVERIES": stream.max_deliveries,
        "STREAM_CREDENTIALS_DIR": STREAM_DIR if stream.secret_name else None,
        "STREAM_TLS_DIR": STREAM_TLS_DIR if stream.tls else None,
        "STREAM_REVISIONS": f"{CONSUMERS_DIR}/{CONSUMERS_FILE}",
    }


def _shadow_token(key: ObjectKey, settings: PodSettings) -> list[Body]:
    if not settings.token_secret:
        return []
    token = shadow_token(settings.token_secret, *key)
    return [{"name": DIGEST_VARIABLE, "value": token_digest(token)}]


def _seconds(span: timedelta | None) -> float | None:
    return span.total_seconds() if span else None


def _key_limit(limit: KeyLimit) -> str:
    parts = {"rate": limit.requests_per_second, "burst": limit.burst, "concurrency": limit.concurrency}
    # Never an exponent, which 1e-05 and its like would have.
    written = [f"{name}={Decimal(str(value)):f}" for name, value in parts.items() if value is not None]
    return ":".join([limit.key, *written])


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _mounts(model: Model, server: Server) -> list[Body]:
    mounts: list[Body] = [{"name": "model", "mountPath": MODEL_DIR}]
    if model.secret_name:
        mounts.append({"name": "credentials", "mountPath": CREDENTIALS_DIR, "readOnly": True})
    if model.ca:
        mounts.append({"name": "ca", "mountPath": CA_DIR, "readOnly": True})
    if model.signature.public_key:
        mounts.append({"name": "public-key", "mountPath": PUBLIC_KEY_DIR, "readOnly": True})
    if server.auth_secret_name:
        mounts.append({"name": "auth", "mountPath": AUTH_DIR, "readOnly": True})
    if server.tls_secret_name:
        mounts.append({"name": "tls", "mountPath": TLS_DIR, "readOnly": True})
    if server.stream:
        mounts.append({"name": "stream-revisions", "mountPath": CONSUMERS_DIR, "readOnly": True})
        if server.stream.secret_name:
            mounts.append({"name": "stream", "mountPath": STREAM_DIR, "readOnly": True})
        if server.stream.tls:
            mounts.append({"name": "stream-tls", "mountPath": STREAM_TLS_DIR, "readOnly": True})
    if moving_model(model.storage_uri):
        mounts.append({"name": "versions", "mountPath": VERSIONS_DIR, "readOnly": True})
    if model.cache_claim or model.cache_path:
        mounts.append({"name": "cache", "mountPath": CACHE_DIR})
    if model.image:
        mounts.append({"name": IMAGE_VOLUME, "mountPath": IMAGE_DIR, "readOnly": True})
    if claim := claim_of(model):
        mounts.append({"name": "claim", "mountPath": f"{CLAIM_DIR}/{claim}", "readOnly": True})
    return mounts


def _volumes(name: str, model: Model, server: Server) -> list[Body]:
    volumes: list[Body] = [{"name": "model", "emptyDir": {}}]
    if model.secret_name:
        volumes.append({"name": "credentials", "secret": {"secretName": model.secret_name}})
    if model.ca:
        volumes.append({"name": "ca", **_certificates(model.ca)})
    if model.signature.public_key:
        volumes.append({"name": "public-key", **_public_key(model.signature.public_key)})
    if server.auth_secret_name:
        volumes.append({"name": "auth", "secret": {"secretName": server.auth_secret_name}})
    if server.tls_secret_name:
        volumes.append({"name": "tls", "secret": {"secretName": server.tls_secret_name}})
    if server.stream:
        # Optional: a pod starts before the operator has written it, and does not consume until then.
        consumers = {"name": consumers_name(name), "optional": True}
        volumes.append({"name": "stream-revisions", "configMap": consumers})
        if server.stream.secret_name:
            volumes.append({"name": "stream", "secret": {"secretName": server.stream.secret_name}})
        if server.stream.tls:
            volumes.append({"name": "stream-tls", "secret": {"secretName": server.stream.tls.secret_name}})
    if moving_model(model.storage_uri):
        # Optional: nothing is known of the first revision before its first pod has told it.
        volumes.append({"name": "versions", "configMap": {"name": versions_name(name), "optional": True}})
    if model.cache_claim:
        volumes.append({"name": "cache", "persistentVolumeClaim": {"claimName": model.cache_claim}})
    elif model.cache_path:
        volumes.append({"name": "cache", "hostPath": {"path": model.cache_path, "type": "DirectoryOrCreate"}})
    if model.image:
        # By its digest, so that what a node has is never stale.
        volumes.append({"name": IMAGE_VOLUME, "image": {"reference": model.image, "pullPolicy": "IfNotPresent"}})
    if claim := claim_of(model):
        volumes.append({"name": "claim", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}})
    return volumes


def _certificates(ca: CertificateAuthority) -> Body:
    """Return the source of the volume with the file `ca.crt`."""
    return _one_entry(ca.secret_name, ca.config_map_name, ca.key, path="ca.crt")


def _public_key(public_key: PublicKey) -> Body:
    """Return the source of a volume with this one entry: beside it may lie the private key."""
    return _one_entry(public_key.secret_name, public_key.config_map_name, public_key.key, path=public_key.key)


def _one_entry(secret: str | None, config_map: str | None, key: str, *, path: str) -> Body:
    """Return the source of a volume with one file, from an entry of a Secret or of a ConfigMap."""
    items = [{"key": key, "path": path}]
    if secret:
        return {"secret": {"secretName": secret, "items": items}}
    return {"configMap": {"name": config_map, "items": items}}


def claim_of(model: Model) -> str:
    """Return the PersistentVolumeClaim of a `pvc://claim/path` URI, empty for other schemes."""
    scheme, _, rest = model.storage_uri.partition("://")
    return rest.partition("/")[0] if scheme == "pvc" else ""
