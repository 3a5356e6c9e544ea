"""A container with a server of one's own, as `spec.server.container`. PURE."""

from dataclasses import dataclass
from typing import Any

from modeldeploy.importing.fields import Fields
from modeldeploy.importing.pods import plain_resources
from modeldeploy.importing.values import Finding, changed, lost
from modeldeploy.requests import Refused

#: Name of the container in the pod template.
APP = "app"
#: Ports of what stands in front of the server in the same pod.
_TAKEN = (8080, 8089)
_FREE = 8081
#: How ports for gRPC are named, by which Knative and Istio tell them.
_OVER_GRPC = ("h2c", "grpc")
#: Fields of a container that mean the same in the pod template.
_SAME = ("imagePullPolicy", "lifecycle", "securityContext", "startupProbe", "volumeMounts", "workingDir")
_TIMES = ("initialDelaySeconds", "periodSeconds", "timeoutSeconds", "successThreshold", "failureThreshold")
#: The variable by which KServe's storage initializer learns what to fetch to /mnt/models.
_STORAGE = "STORAGE_URI"


@dataclass(frozen=True, slots=True)
class OwnServer:
    """Fields of `spec.server.container`, of its container in the pod template, and the artifact that it wants."""

    container: dict[str, Any]
    template: dict[str, Any]
    storage_uri: str


def own_server(
    source: Fields, findings: list[Finding], *, usual_port: int, usual_path: str, speaks_v2: bool
) -> OwnServer:
    """Return a container as a server of one's own.

    Args:
        usual_port, usual_path: where such a server listens, and what it answers while it is ready, if nothing says so.
        speaks_v2: whether it speaks the Open Inference Protocol, which has a path for that.

    Raises:
        Refused: the container has no image.
    """
    image = source.text("image")
    if not image:
        raise Refused(f"{source.at('image')}: is missing")
    source.value("name")
    uri, variables = "", []
    for one in source.values("env"):
        if isinstance(one, dict) and one.get("name") == _STORAGE and one.get("value"):
            uri = str(one["value"])
        else:
            variables.append(one)
    container: dict[str, Any] = {"image": image}
    container |= {name: list(map(str, source.values(name))) for name in ("command", "args") if name in source}
    container["port"] = _port(source, findings, usual_port)
    if speaks_v2:
        container["protocol"] = "openInference"
    ready, alive = _path(source.child("readinessProbe")), _path(source.child("livenessProbe"))
    if ready or not speaks_v2:
        container["readinessPath"] = ready or usual_path
    if not (ready or speaks_v2):
        at = source.at("readinessProbe")
        findings.append(changed(at, f"a server has to say when it is ready: {usual_path} is asked; write another path"))
    container |= {"livenessPath": alive} if alive else {}
    container |= {"env": variables} if variables else {}
    if resources := plain_resources(source):
        container["resources"] = resources
    findings.append(
        changed(
            source.at("image"),
            "runs as server.container behind a proxy that counts and judges (docs/how-to/any-image.md); podPolicy has"
            " to allow the image, which must not run as root",
        )
    )
    return OwnServer(container, {name: source.value(name) for name in _SAME if name in source}, uri)


def _port(source: Fields, findings: list[Finding], usual: int) -> int:
    found = [(one.text("name"), one.integer("containerPort")) for one in source.items("ports")]
    for one in source.items("ports"):
        one.value("protocol")
    over_http = [number for name, number in found if not name.startswith(_OVER_GRPC)]
    port = next(iter(over_http), None) or usual
    if len(over_http) < len(found):
        told = "requests over gRPC are neither passed on nor counted: the server has to answer over HTTP as well"
        findings.append(lost(source.at("ports"), told))
    if port not in _TAKEN:
        return port
    told = f"{port} is the proxy's: start the server on {_FREE}, in KServe's SDK by args --http_port={_FREE}"
    findings.append(lost(source.at("ports"), told))
    return _FREE


def _path(probe: Fields) -> str:
    """The path that a probe asks; its periods are those of the operator's own probes."""
    get = probe.child("httpGet")
    get.value("port"), get.value("scheme")
    for one in _TIMES:
        probe.value(one)
    return get.text("path")
