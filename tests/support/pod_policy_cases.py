"""What the pod policy refuses: one table for the operator, for the CEL of the chart, and for a real API server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Values of the chart, and the levels of the namespaces that they make.
VALUES: dict[str, Any] = {
    "podPolicyExceptions": {
        "namespaces": {"tools": "baseline", "gpu": "privileged"},
        "images": ["registry.example.com/ml/*", "proxy:1"],
        "serviceAccounts": ["reader"],
        "hostPaths": ["/var/cache/modeldeploy"],
    }
}
LEVELS = {"team-a": "restricted", "tools": "baseline", "gpu": "privileged"}
MOUNTED = f"oci://evil.example.com/fraud@sha256:{'0' * 64}"
SAFE = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_OVERLAY, _JOB = "spec.server.podTemplate", "spec.hooks.retrain.jobTemplate.spec.template"


@dataclass(frozen=True, slots=True)
class Case:
    """`baseline` are the fields of `spec` that both levels refuse, `restricted` those that only restricted refuses."""

    title: str
    spec: dict[str, Any]
    baseline: tuple[str, ...] = ()
    restricted: tuple[str, ...] = ()

    @property
    def body(self) -> dict[str, Any]:
        """The ModelDeployment."""
        spec = {"model": {"storageUri": "s3://models/fraud", **self.spec.get("model", {})}}
        if spec["model"]["storageUri"] is None:
            del spec["model"]
        spec |= {key: value for key, value in self.spec.items() if key != "model"}
        metadata = {"name": "fraud", "namespace": "team-a", "uid": "1", "generation": 1, "resourceVersion": "1"}
        return {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelDeployment", "metadata": metadata, "spec": spec}

    @property
    def batch(self) -> dict[str, Any] | None:
        """A ModelBatch with the same pods; None where it has not these fields."""
        if set(self.spec) - {"server"} or set(self.spec.get("server", {})) - {
            "image",
            "env",
            "resources",
            "podTemplate",
        }:
            return None
        spec = {"model": {"name": "fraud"}, "input": {"uri": "s3://a/b"}, "output": {"uri": "s3://a/c"}, **self.spec}
        return {**self.body, "kind": "ModelBatch", "spec": spec}

    def refused(self, level: str) -> set[str]:
        """Return the paths of the fields that a level refuses."""
        paths = {"restricted": (*self.baseline, *self.restricted), "baseline": self.baseline}.get(level, ())
        return {path.replace("T.", f"{_OVERLAY}.").replace("J.", f"{_JOB}.") for path in paths}


def pod(title: str, fields: dict[str, Any], baseline: Any = (), restricted: Any = ()) -> Case:
    """Return a case of fields of the pod."""
    return Case(title, {"server": {"podTemplate": {"spec": fields}}}, tuple(baseline), tuple(restricted))


def server(title: str, fields: dict[str, Any], baseline: Any = (), restricted: Any = ()) -> Case:
    """Return a case of fields of the container of the model server."""
    at = "T.spec.containers[server]."
    paths = ([f"{at}{path}" for path in given] for given in (baseline, restricted))
    return pod(title, {"containers": [{"name": "server", **fields}]}, *paths)


def secured(title: str, context: dict[str, Any] | None, baseline: Any = (), restricted: Any = ()) -> Case:
    """Return a case of the securityContext of that container."""
    paths = ([f"securityContext.{path}" for path in given] for given in (baseline, restricted))
    return server(title, {"securityContext": context}, *paths)


def beside(
    title: str, fields: dict[str, Any], baseline: Any = (), restricted: Any = (), kind: str = "containers"
) -> Case:
    """Return a case of a container beside that of the model server."""
    paths = ([f"T.spec.{kind}[proxy].{path}" for path in given] for given in (baseline, restricted))
    return pod(title, {kind: [{"name": "proxy", "image": "proxy:1", **fields}]}, *paths)


def job(title: str, template: dict[str, Any], baseline: Any = (), restricted: Any = ()) -> Case:
    """Return a case of the pod that trains a model."""
    retrain = {"retrain": {"jobTemplate": {"spec": {"template": template}}}}
    return Case(title, {"hooks": retrain}, tuple(baseline), tuple(restricted))


def own(title: str, image: str, fields: dict[str, Any], baseline: Any = (), restricted: Any = ()) -> Case:
    """Return a case of a server of the user's own; `fields` are those of its container in the overlay."""
    container = {"image": image, "port": 9000, "readinessPath": "/healthz"}
    overlay = {"podTemplate": {"spec": {"containers": [{"name": "app", **fields}]}}} if fields else {}
    return Case(title, {"server": {"container": container, **overlay}}, tuple(baseline), tuple(restricted))


def fetched(title: str, fields: dict[str, Any], baseline: Any = (), restricted: Any = ()) -> Case:
    """Return a case of the init container that brings the artifact of a server of the user's own."""
    at = "T.spec.initContainers[fetch]."
    container = {"image": "proxy:1", "port": 9000, "readinessPath": "/healthz"}
    overlay = {"spec": {"initContainers": [{"name": "fetch", **fields}]}}
    paths = (tuple(f"{at}{path}" for path in given) for given in (baseline, restricted))
    return Case(title, {"server": {"container": container, "podTemplate": overlay}}, *paths)


TRAIN = {"name": "train", "image": "registry.example.com/ml/train:1", "securityContext": SAFE}
_DROPPED = ("allowPrivilegeEscalation", "capabilities.drop")
_NAKED = tuple(f"securityContext.{field}" for field in (*_DROPPED, "runAsNonRoot", "seccompProfile"))

_APP = "T.spec.containers[app]."

CASES = [
    Case("nothing but a model", {}),
    own("a server of one's own", "vllm:1", {}, (), ["spec.server.container.image"]),
    own("a server of one's own on the list", "registry.example.com/ml/vllm:1", {}),
    own("a server of one's own as a user", "proxy:1", {"securityContext": {"runAsUser": 1000}}),
    own(
        "a server of one's own as root",
        "proxy:1",
        {"securityContext": {"runAsUser": 0}},
        (),
        [f"{_APP}securityContext.runAsUser"],
    ),
    own(
        "a server of one's own with the rights of the node",
        "proxy:1",
        {"securityContext": {"privileged": True}},
        [f"{_APP}securityContext.privileged"],
    ),
    own("another image of one's own by the overlay", "proxy:1", {"image": "evil"}, (), [f"{_APP}image"]),
    own(
        "a port of the node for a server of one's own",
        "proxy:1",
        {"ports": [{"containerPort": 9000, "hostPort": 80}]},
        [f"{_APP}ports"],
    ),
    own(
        "the hook of a server of one's own on another host",
        "proxy:1",
        {"lifecycle": {"preStop": {"httpGet": {"host": "169.254.169.254"}}}},
        [f"{_APP}lifecycle.preStop"],
    ),
    own(
        "a probe of another host beside a server of one's own",
        "proxy:1",
        {"livenessProbe": {"httpGet": {"host": "10.0.0.1", "port": 1}}},
        [f"{_APP}livenessProbe"],
    ),
    own(
        "a path of a probe that looks like another host",
        "proxy:1",
        {"livenessProbe": {"httpGet": {"path": "//10.0.0.1/", "port": 1}}},
    ),
    own(
        "nothing of the securityContext of a server of one's own",
        "proxy:1",
        {"securityContext": None},
        (),
        [f"{_APP}securityContext.{field}" for field in _DROPPED],
    ),
    Case(
        "what is called fetch where nothing is fetched",
        {
            "model": {"storageUri": None},
            "server": {
                "container": {"image": "proxy:1", "port": 9000, "readinessPath": "/healthz"},
                "podTemplate": {"spec": {"initContainers": [{"name": "fetch", "image": "proxy:1"}]}},
            },
        },
        (),
        tuple(f"T.spec.initContainers[fetch].securityContext.{field}" for field in _DROPPED),
    ),
    fetched("the image of what fetches", {"image": "evil"}, (), ["image"]),
    fetched("what fetches as root", {"securityContext": {"runAsUser": 0}}, (), ["securityContext.runAsUser"]),
    fetched("what fetches with all rights", {"securityContext": {"privileged": True}}, ["securityContext.privileged"]),
    fetched(
        "variables and resources of what fetches",
        {"env": [{"name": "A", "value": "b"}], "resources": {"limits": {"cpu": 1}}},
    ),
    pod("what many overlays have", {"nodeSelector": {"gpu": "a"}, "tolerations": [{"operator": "Exists"}]}),
    server("resources, variables and a GPU", {"resources": {"limits": {"nvidia.com/gpu": 1}}, "env": [{"name": "A"}]}),
    *(pod(field, {field: True}, [f"T.spec.{field}"]) for field in ("hostNetwork", "hostPID", "hostIPC")),
    pod("host namespaces that are not used", {"hostNetwork": False, "hostPID": None}),
    pod(
        "a folder of the node", {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, ["T.spec.volumes[v].hostPath"]
    ),
    pod("a folder on the list", {"volumes": [{"name": "v", "hostPath": {"path": "/var/cache/modeldeploy"}}]}),
    pod(
        "a way out of the folder on the list",
        {"volumes": [{"name": "v", "hostPath": {"path": "/var/cache/modeldeploy/.."}}]},
        ["T.spec.volumes[v].hostPath"],
    ),
    pod("hostPath without a path", {"volumes": [{"name": "v", "hostPath": {}}]}, ["T.spec.volumes[v].hostPath"]),
    pod(
        "the operator's own volume on the node",
        {"volumes": [{"name": "model", "emptyDir": None, "hostPath": {"path": "/etc"}}]},
        ["T.spec.volumes[model].hostPath"],
    ),
    Case("a cache on the node", {"model": {"cache": {"hostPath": "/srv"}}}, ("spec.model.cache.hostPath",)),
    Case("a cache in a folder on the list", {"model": {"cache": {"hostPath": "/var/cache/modeldeploy"}}}),
    Case("a cache in a claim", {"model": {"cache": {"claimName": "cache"}}}),
    pod(
        "a volume of the network",
        {"volumes": [{"name": "v", "nfs": {"server": "n", "path": "/"}}]},
        (),
        ["T.spec.volumes[v]"],
    ),
    pod(
        "volumes that the standard allows",
        {"volumes": [{"name": "a", "configMap": {"name": "c"}}, {"name": "b", "emptyDir": {"medium": "Memory"}}]},
    ),
    Case("a package in an image", {"model": {"storageUri": MOUNTED, "mount": "image"}}, (), ("spec.model.storageUri",)),
    Case(
        "a package in an image on the list",
        {"model": {"storageUri": MOUNTED.replace("evil.example.com", "registry.example.com/ml"), "mount": "image"}},
    ),
    pod(
        "an image as a volume",
        {"volumes": [{"name": "v", "image": {"reference": "evil"}}]},
        (),
        ["T.spec.volumes[v].image"],
    ),
    pod(
        "an image on the list as a volume",
        {"volumes": [{"name": "v", "image": {"reference": "registry.example.com/ml/w:1"}}]},
    ),
    pod(
        "a projected token",
        {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
        (),
        ["T.spec.volumes[v].projected"],
    ),
    pod(
        "a projected ConfigMap", {"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "c"}}]}}]}
    ),
    pod(
        "an unsafe sysctl",
        {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
        ["T.spec.securityContext.sysctls"],
    ),
    pod("a safe sysctl", {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}}),
    pod("another ServiceAccount", {"serviceAccountName": "admin"}, (), ["T.spec.serviceAccountName"]),
    pod("another ServiceAccount by the old name", {"serviceAccount": "admin"}, (), ["T.spec.serviceAccount"]),
    pod("the default ServiceAccount", {"serviceAccountName": "default"}),
    pod(
        "a ServiceAccount on the list with its token",
        {"serviceAccountName": "reader", "automountServiceAccountToken": True},
    ),
    pod(
        "a ServiceAccount on the list beside another by the old name",
        {"serviceAccountName": "reader", "serviceAccount": "admin"},
        (),
        ["T.spec.serviceAccount"],
    ),
    pod("a token", {"automountServiceAccountToken": True}, (), ["T.spec.automountServiceAccountToken"]),
    pod(
        "a token by leaving the field out",
        {"automountServiceAccountToken": None},
        (),
        ["T.spec.automountServiceAccountToken"],
    ),
    pod("a node", {"nodeName": "control-plane"}, (), ["T.spec.nodeName"]),
    pod("root for the pod", {"securityContext": {"runAsUser": 0}}, (), ["T.spec.securityContext.runAsUser"]),
    pod("another user for the pod", {"securityContext": {"runAsUser": 1000, "fsGroup": 1000}}),
    pod(
        "root allowed for the pod",
        {"securityContext": {"runAsNonRoot": False}},
        (),
        ["T.spec.securityContext.runAsNonRoot", "T.spec.containers[server].securityContext.runAsNonRoot"],
    ),
    pod(
        "no securityContext",
        {"securityContext": None},
        (),
        [f"T.spec.containers[server].securityContext.{field}" for field in ("runAsNonRoot", "seccompProfile")],
    ),
    pod(
        "no seccomp profile",
        {"securityContext": {"seccompProfile": None}},
        (),
        ["T.spec.containers[server].securityContext.seccompProfile"],
    ),
    pod(
        "Unconfined for the pod",
        {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
        ["T.spec.securityContext.seccompProfile"],
    ),
    pod(
        "a seccomp profile without a type",
        {"securityContext": {"seccompProfile": {"type": None}}},
        ["T.spec.securityContext.seccompProfile"],
    ),
    pod(
        "a profile of the node", {"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "p"}}}
    ),
    pod(
        "no AppArmor",
        {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
        ["T.spec.securityContext.appArmorProfile"],
    ),
    Case(
        "no AppArmor by annotation",
        {
            "server": {
                "podTemplate": {
                    "metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/server": "unconfined"}}
                }
            }
        },
        ("T.metadata.annotations[container.apparmor.security.beta.kubernetes.io/server]",),
    ),
    Case(
        "annotations of the pod",
        {
            "server": {
                "podTemplate": {
                    "metadata": {
                        "annotations": {
                            "container.apparmor.security.beta.kubernetes.io/server": "localhost/x",
                            "a": "b",
                        }
                    }
                }
            }
        },
    ),
    pod(
        "a type of SELinux",
        {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}},
        ["T.spec.securityContext.seLinuxOptions"],
    ),
    pod("a level of SELinux", {"securityContext": {"seLinuxOptions": {"type": "container_t", "level": "s0:c1,c2"}}}),
    pod(
        "a process of the node",
        {"securityContext": {"windowsOptions": {"hostProcess": True}}},
        ["T.spec.securityContext.windowsOptions.hostProcess"],
    ),
    secured("privileged", {"privileged": True}, ["privileged"]),
    secured("not privileged", {"privileged": False, "readOnlyRootFilesystem": False}),
    secured("an escalation of rights", {"allowPrivilegeEscalation": True}, (), ["allowPrivilegeEscalation"]),
    secured("escalation left out", {"allowPrivilegeEscalation": None}, (), ["allowPrivilegeEscalation"]),
    secured("nothing of the container's own securityContext", None, (), _DROPPED),
    secured("a capability of the node", {"capabilities": {"add": ["SYS_ADMIN"]}}, ["capabilities.add"]),
    secured("a capability of the default", {"capabilities": {"add": ["CHOWN"]}}, (), ["capabilities.add"]),
    secured("low ports", {"capabilities": {"add": ["NET_BIND_SERVICE"]}}),
    secured("capabilities kept", {"capabilities": {"drop": []}}, (), ["capabilities.drop"]),
    secured("capabilities kept by null", {"capabilities": None}, (), ["capabilities.drop"]),
    secured("one capability dropped", {"capabilities": {"drop": ["NET_RAW"]}}, (), ["capabilities.drop"]),
    secured("root", {"runAsUser": 0}, (), ["runAsUser"]),
    secured("root allowed", {"runAsNonRoot": False}, (), ["runAsNonRoot"]),
    secured("all of /proc", {"procMount": "Unmasked"}, ["procMount"]),
    secured("Unconfined", {"seccompProfile": {"type": "Unconfined"}}, ["seccompProfile"]),
    secured("no AppArmor for the container", {"appArmorProfile": {"type": "Unconfined"}}, ["appArmorProfile"]),
    secured("a user of SELinux", {"seLinuxOptions": {"user": "system_u"}}, ["seLinuxOptions"]),
    secured(
        "a container as a process of the node",
        {"windowsOptions": {"hostProcess": True}},
        ["windowsOptions.hostProcess"],
    ),
    server("a port of the node", {"ports": [{"containerPort": 8080, "hostPort": 80}]}, ["ports"]),
    server("a port of the pod", {"ports": [{"containerPort": 9000, "hostPort": 0}]}),
    server("a probe of another host", {"readinessProbe": {"httpGet": {"host": "10.0.0.1"}}}, ["readinessProbe"]),
    server(
        "a TCP probe of another host",
        {"livenessProbe": {"httpGet": None, "tcpSocket": {"host": "x", "port": 1}}},
        ["livenessProbe"],
    ),
    server(
        "a hook of another host",
        {"lifecycle": {"preStop": {"sleep": None, "httpGet": {"host": "x", "port": 1}}}},
        ["lifecycle.preStop"],
    ),
    server("a slower probe", {"startupProbe": {"failureThreshold": 600}}),
    server("another image by the overlay", {"image": "evil"}, (), ["image"]),
    Case("another image", {"server": {"image": "evil"}}, (), ("spec.server.image",)),
    Case(
        "an image that begins like one on the list",
        {"server": {"image": "registry.example.com/mlx"}},
        (),
        ("spec.server.image",),
    ),
    Case("an image on the list", {"server": {"image": "registry.example.com/ml/server:2"}}),
    Case("the operator's image", {"server": {"image": "modeldeploy/server:0.1.0"}}),
    beside("a sidecar with an image on the list", {"securityContext": SAFE}),
    beside("a sidecar without a securityContext", {}, (), (*(f"securityContext.{field}" for field in _DROPPED),)),
    beside("a sidecar with another image", {"image": "proxy:2", "securityContext": SAFE}, (), ["image"]),
    beside("a privileged sidecar", {"securityContext": {**SAFE, "privileged": True}}, ["securityContext.privileged"]),
    beside(
        "a privileged init container",
        {"securityContext": {**SAFE, "privileged": True}},
        ["securityContext.privileged"],
        kind="initContainers",
    ),
    beside("an init container", {"securityContext": SAFE}, kind="initContainers"),
    beside(
        "a privileged ephemeral container",
        {"securityContext": {**SAFE, "privileged": True}},
        ["securityContext.privileged"],
        kind="ephemeralContainers",
    ),
    job("a job", {"spec": {"automountServiceAccountToken": False, "containers": [TRAIN]}}),
    job("a job with a token", {"spec": {"containers": [TRAIN]}}, (), ["J.spec.automountServiceAccountToken"]),
    job(
        "a naked job",
        {"spec": {"automountServiceAccountToken": False, "containers": [{"name": "train", "image": "train"}]}},
        (),
        [f"J.spec.containers[train].{field}" for field in (*_NAKED, "image")],
    ),
    job(
        "a job of the node",
        {
            "spec": {
                "automountServiceAccountToken": False,
                "hostPID": True,
                "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
                "containers": [{**TRAIN, "securityContext": {**SAFE, "privileged": True}}],
            }
        },
        ["J.spec.hostPID", "J.spec.volumes[v].hostPath", "J.spec.containers[train].securityContext.privileged"],
    ),
    job(
        "a job whose pod is secured",
        {
            "spec": {
                "automountServiceAccountToken": False,
                "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [
                    {
                        **TRAIN,
                        "securityContext": {key: SAFE[key] for key in ("allowPrivilegeEscalation", "capabilities")},
                    }
                ],
            }
        },
    ),
    job(
        "a job with the ServiceAccount of another",
        {"spec": {"serviceAccountName": "admin", "automountServiceAccountToken": False, "containers": [TRAIN]}},
        (),
        ["J.spec.serviceAccountName"],
    ),
    job(
        "a job with a naked init container",
        {
            "spec": {
                "automountServiceAccountToken": False,
                "initContainers": [{"name": "fetch", "image": "registry.example.com/ml/fetch"}],
                "containers": [TRAIN],
            }
        },
        (),
        [f"J.spec.initContainers[fetch].{field}" for field in _NAKED],
    ),
]
