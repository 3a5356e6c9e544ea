"""What KServe and Seldon take from a Pod: its own fields, and those of the container that serves. PURE."""

from typing import Any

from modeldeploy.importing.fields import Fields
from modeldeploy.importing.values import Finding, changed

#: Fields of a PodSpec that mean the same in `spec.server.podTemplate.spec`.
_SAME = (
    "affinity",
    "hostAliases",
    "imagePullSecrets",
    "nodeSelector",
    "priorityClassName",
    "runtimeClassName",
    "schedulerName",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
)


def pod_spec(source: Fields) -> tuple[dict[str, Any], list[Finding]]:
    """Return `podTemplate.spec`."""
    spec = {name: source.value(name) for name in _SAME if name in source}
    findings = [
        changed(source.at(name), "is in podTemplate; the operator's podPolicy may refuse it (docs/teams.md)")
        for name in spec
        if name not in ("imagePullSecrets", "terminationGracePeriodSeconds")
    ]
    if account := source.text("serviceAccountName"):
        spec["serviceAccountName"] = account
        findings.append(
            changed(
                source.at("serviceAccountName"),
                f"is in podTemplate; the operator's podPolicy has to allow {account}. Secrets of the storage that are"
                " attached to it are not looked for: name one in model.secretName",
            )
        )
    return spec, findings


def with_pods(server: dict[str, Any], pods: dict[str, Any]) -> dict[str, Any]:
    """Return `spec.server` with a pod template, if there is anything for it."""
    return {**server, "podTemplate": {"spec": pods}} if pods else server


def plain_resources(source: Fields) -> dict[str, Any]:
    """Return `resources` of a container; a fraction that stands there as a number is written as a quantity."""

    def quantity(value: Any) -> Any:
        return str(value) if isinstance(value, float) else value

    found = source.child("resources")
    return {
        kind: {name: quantity(one) for name, one in found.mapping(kind).items()}
        for kind in ("limits", "requests")
        if kind in found
    }


def container(source: Fields) -> tuple[dict[str, Any], list[Finding]]:
    """Return `env` and `resources` of `spec.server`."""
    server: dict[str, Any] = {"env": source.value("env")} if "env" in source else {}
    if resources := plain_resources(source):
        server["resources"] = resources
    findings = []
    if "env" in server:
        findings.append(
            changed(
                source.at("env"),
                "is in server.env; variables that are settings of the other server have no effect here",
            )
        )
    limits = (server.get("resources") or {}).get("limits") or {}
    if any(str(name).endswith("/gpu") for name in limits):
        findings.append(
            changed(
                source.at("resources"),
                "the image of the model server computes on the processor: a GPU needs one of your own in server.image"
                " (docs/how-to/gpu-pods.md)",
            )
        )
    return server, findings
