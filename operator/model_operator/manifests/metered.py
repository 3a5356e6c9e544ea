"""Pods of a server of the user's own (`spec.server.container`): ours stands in front of it as a meter.

Three containers: `fetch` brings the artifact, if there is one, before the others start; `app` is the user's; `server`
is the meter, with the ports, probes and metrics of a model server (docs/decisions/0022-any-image.md).
"""

from collections.abc import Mapping
from typing import Any

from model_operator.api.pod_template import OWN_CONTAINER, SERVING_FIELDS
from model_operator.api.spec import Container

Body = dict[str, Any]

#: Where `app` finds the artifact of `spec.model.storageUri`; KServe's place for it.
ARTIFACT_DIR = "/mnt/models"
ARTIFACT_VOLUME = "artifact"
#: Fields of the pod's securityContext that belong to our image: another one has a user of its own.
_OUR_USER = ("runAsUser", "runAsGroup")
_NOT_OF_A_METER = ("MODEL_SERVER_SHADOW_PORT",)


def metered_spec(
    spec: Mapping[str, Any], meter: Mapping[str, Any], container: Container, *, scheme: str, port: int, uri: str
) -> Body:
    """Return the PodSpec with the user's container.

    Args:
        spec: of a pod of our model server; its container knows how to fetch the artifact.
        meter: the container of a model server without an artifact.
        scheme: of the meter's port, `http` or `https`.
        port: the meter's port.
        uri: of the artifact; empty if the image has the model.
    """
    (ours,) = spec["containers"]
    user = {name: spec["securityContext"][name] for name in _OUR_USER}
    rest = {name: value for name, value in spec["securityContext"].items() if name not in _OUR_USER}
    artifact = {"name": ARTIFACT_VOLUME, "mountPath": ARTIFACT_DIR}
    found: Body = {
        **spec,
        "securityContext": rest,
        "containers": [
            _with_user(_meter(meter, container, uri), user),
            _app(container, scheme, port, {**artifact, "readOnly": True} if uri else None),
        ],
    }
    if uri:
        fetch = {name: value for name, value in ours.items() if name not in SERVING_FIELDS}
        fetch |= {"name": "fetch", "args": ["fetch", ARTIFACT_DIR], "volumeMounts": [*ours["volumeMounts"], artifact]}
        found["initContainers"] = [_with_user(fetch, user)]
        found["volumes"] = [*spec["volumes"], {"name": ARTIFACT_VOLUME, "emptyDir": {}}]
    else:
        found["volumes"] = list(spec["volumes"])
    return found


def _with_user(container: Body, user: Mapping[str, Any]) -> Body:
    return {**container, "securityContext": {**container["securityContext"], **user}}


def _meter(meter: Mapping[str, Any], container: Container, uri: str) -> Body:
    values = {
        "UPSTREAM_PORT": str(container.port),
        "PROTOCOL": container.protocol,
        "READINESS_PATH": container.ready,
        "URI": uri or container.image,
    }
    if container.prediction_paths:
        values["PREDICTION_PATHS"] = ",".join(container.prediction_paths)
    env = [{"name": f"MODEL_SERVER_METER_{name}", "value": value} for name, value in values.items()]
    # Most servers listen on all addresses, and kubelet's probes need that: it is asked where they ask.
    host = {
        "name": "MODEL_SERVER_METER_UPSTREAM_HOST",
        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}},
    }
    kept = [one for one in meter["env"] if one["name"] not in _NOT_OF_A_METER]
    ports = [one for one in meter["ports"] if one["name"] != "shadow"]
    return {**meter, "args": ["meter"], "env": [*env, host, *kept], "ports": ports}


def _app(container: Container, scheme: str, port: int, artifact: Body | None) -> Body:
    explicit = {"scheme": scheme.upper()} if scheme != "http" else {}
    app: Body = {
        "name": OWN_CONTAINER,
        "image": container.image,
        "ports": [{"name": OWN_CONTAINER, "containerPort": container.port, "protocol": "TCP"}],
        "env": [dict(entry) for entry in container.env],
        "resources": dict(container.resources),
        # Answered when the meter has finished: what is in flight needs this container until then.
        "lifecycle": {"preStop": {"httpGet": {"path": "/meter/drained", "port": port, **explicit}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    if container.command:
        app["command"] = list(container.command)
    if container.args:
        app["args"] = list(container.args)
    if artifact is not None:
        app["volumeMounts"] = [artifact]
    if container.live:
        # A large model takes long to load: how long is too long says progressDeadlineSeconds.
        app["startupProbe"] = _probe(container.live, container.port, period=2, failures=1800)
        app["livenessProbe"] = _probe(container.live, container.port, period=10, failures=6)
    return app


def _probe(path: str, port: int, *, period: int, failures: int) -> Body:
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
