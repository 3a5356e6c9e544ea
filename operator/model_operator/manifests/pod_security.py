"""What a pod must not have: the Pod Security Standards, and what they leave to the person who may create pods. Pure.

`baseline` and `restricted` are those of Kubernetes 1.36, without their exceptions for Windows and for user namespaces
(https://kubernetes.io/docs/concepts/security/pod-security-standards/). Who may write a ModelDeployment is to gain
nothing that only the creators of pods have: `restricted` also limits ServiceAccounts, their tokens, images and nodes.

The ValidatingAdmissionPolicy of the chart has the same controls with the same texts, and
tests/support/pod_policy_cases.py holds both to the same answers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Level = Literal["restricted", "baseline", "privileged"]
Body = Mapping[str, Any]

#: What a container may add. `restricted` allows the one below.
_BASELINE_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)
_RESTRICTED_CAPABILITIES = frozenset({"NET_BIND_SERVICE"})
_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
_SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
_PROFILES = frozenset({"RuntimeDefault", "Localhost"})
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HOOKS = ("postStart", "preStop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What `restricted` allows beyond the standard.

    Attributes:
        images: names of images; one that ends in `*` stands for all that begin so.
        service_accounts: ServiceAccounts that pods may name, and whose tokens they may have.
        host_paths: folders of nodes that may be mounted, also under `baseline`.
    """

    images: Sequence[str] = ()
    service_accounts: Sequence[str] = ()
    host_paths: Sequence[str] = ()


class Violation(NamedTuple):
    """A field of a pod template, such as `spec.hostPID`, and what is wrong with it."""

    path: str
    problem: str


def violations(template: Body, level: Level, allowed: Allowed) -> Iterator[Violation]:
    """Yield what a level refuses in a pod template."""
    if level == "privileged":
        return
    spec = _object(template.get("spec"))
    containers = list(_containers(spec))
    yield from _host(spec, allowed)
    yield from _annotations(template)
    yield from _security_context("spec", _object(spec.get("securityContext")))
    for path, container in containers:
        yield from _baseline(path, container)
    if level == "restricted":
        yield from _identity(spec, allowed)
        yield from _volumes(spec, allowed)
        yield from _pod_user(spec)
        for path, container in containers:
            yield from _restricted(path, container, _object(spec.get("securityContext")), allowed)


def _containers(spec: Body) -> Iterator[tuple[str, Body]]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in _objects(spec.get(field)):
            yield f"spec.{field}[{container.get('name', '')}]", container


def _host(spec: Body, allowed: Allowed) -> Iterator[Violation]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field) not in (None, False):
            yield Violation(f"spec.{field}", "is a namespace of the node")
    sysctls = _objects(_object(spec.get("securityContext")).get("sysctls"))
    if any(sysctl.get("name") not in _SYSCTLS for sysctl in sysctls):
        yield Violation("spec.securityContext.sysctls", "has one that is not among the safe sysctls")
    for volume in _objects(spec.get("volumes")):
        host_path = volume.get("hostPath")
        if host_path is not None and _object(host_path).get("path") not in allowed.host_paths:
            yield Violation(f"spec.volumes[{volume.get('name', '')}].hostPath", "is a folder of the node")


def _annotations(template: Body) -> Iterator[Violation]:
    annotations = _object(_object(template.get("metadata")).get("annotations"))
    for name, value in sorted(annotations.items()):
        is_confined = value in ("", "runtime/default") or str(value).startswith("localhost/")
        if name.startswith(_APPARMOR) and not is_confined:
            yield Violation(f"metadata.annotations[{name}]", "ends the confinement by AppArmor")


def _security_context(path: str, context: Body) -> Iterator[Violation]:
    """Yield what is wrong in the securityContext of a pod or of a container, which have these fields in common."""
    path = f"{path}.securityContext"
    for field in ("seccompProfile", "appArmorProfile"):
        profile = context.get(field)
        if profile is not None and _object(profile).get("type") not in _PROFILES:
            yield Violation(f"{path}.{field}", "must be of type RuntimeDefault or Localhost")
    options = _object(context.get("seLinuxOptions"))
    if options.get("type", "") not in _SELINUX_TYPES or options.get("user") or options.get("role"):
        yield Violation(f"{path}.seLinuxOptions", "may have container_t and its siblings as type, and no user or role")
    if _object(context.get("windowsOptions")).get("hostProcess") not in (None, False):
        yield Violation(f"{path}.windowsOptions.hostProcess", "runs on the node itself")


def _baseline(path: str, container: Body) -> Iterator[Violation]:
    context = _object(container.get("securityContext"))
    yield from _security_context(path, context)
    if context.get("privileged") not in (None, False):
        yield Violation(f"{path}.securityContext.privileged", "gives the container all rights of the node")
    if context.get("procMount") not in (None, "Default"):
        yield Violation(f"{path}.securityContext.procMount", "must be Default")
    added = _list(_object(context.get("capabilities")).get("add"))
    if not set(map(str, added)) <= _BASELINE_CAPABILITIES:
        yield Violation(f"{path}.securityContext.capabilities.add", "has more than what containers get by default")
    if any(port.get("hostPort") not in (None, 0) for port in _objects(container.get("ports"))):
        yield Violation(f"{path}.ports", "has a hostPort")
    handlers = [
        *((name, _object(container.get(name))) for name in _PROBES),
        *((f"lifecycle.{name}", _object(_object(container.get("lifecycle")).get(name))) for name in _HOOKS),
    ]
    for name, handler in handlers:
        if any(_object(handler.get(action)).get("host") not in (None, "") for action in ("httpGet", "tcpSocket")):
            yield Violation(f"{path}.{name}", "asks another host than the pod")


def _identity(spec: Body, allowed: Allowed) -> Iterator[Violation]:
    names = {field: spec.get(field) for field in ("serviceAccountName", "serviceAccount")}
    for field, name in names.items():
        if name not in (None, "", "default") and name not in allowed.service_accounts:
            yield Violation(f"spec.{field}", _unlisted(name, "ServiceAccounts", "serviceAccounts"))
    account = names["serviceAccountName"] or names["serviceAccount"] or "default"
    if account not in allowed.service_accounts:
        if spec.get("automountServiceAccountToken") is not False:
            yield Violation("spec.automountServiceAccountToken", "must be false")
        for volume in _objects(spec.get("volumes")):
            sources = _objects(_object(volume.get("projected")).get("sources"))
            if any(source.get("serviceAccountToken") is not None for source in sources):
                path = f"spec.volumes[{volume.get('name', '')}].projected"
                yield Violation(path, "mounts the token of a ServiceAccount")
    if spec.get("nodeName") not in (None, ""):
        yield Violation("spec.nodeName", "passes by the scheduler, and what it keeps off a node")


def _volumes(spec: Body, allowed: Allowed) -> Iterator[Violation]:
    for volume in _objects(spec.get("volumes")):
        reference = _object(volume.get("image")).get("reference")
        if reference is not None and not is_listed(str(reference), allowed.images):
            yield Violation(f"spec.volumes[{volume.get('name', '')}].image", _unlisted(reference, "images", "images"))
        types = {name for name, value in volume.items() if name != "name" and value is not None}
        if types - _VOLUMES - {"hostPath"}:
            yield Violation(f"spec.volumes[{volume.get('name', '')}]", "is of a type that the standard refuses")


def _pod_user(spec: Body) -> Iterator[Violation]:
    context = _object(spec.get("securityContext"))
    if context.get("runAsNonRoot") not in (None, True):
        yield Violation("spec.securityContext.runAsNonRoot", "must be true")
    if context.get("runAsUser") == 0:
        yield Violation("spec.securityContext.runAsUser", "is root")


def _restricted(path: str, container: Body, pod: Body, allowed: Allowed) -> Iterator[Violation]:
    context = _object(container.get("securityContext"))
    if context.get("allowPrivilegeEscalation") is not False:
        yield Violation(f"{path}.securityContext.allowPrivilegeEscalation", "must be false")
    own = context.get("runAsNonRoot")
    if (pod.get("runAsNonRoot") if own is None else own) is not True:
        yield Violation(f"{path}.securityContext.runAsNonRoot", "must be true, here or in the pod")
    if context.get("runAsUser") == 0:
        yield Violation(f"{path}.securityContext.runAsUser", "is root")
    if context.get("seccompProfile") is None and pod.get("seccompProfile") is None:
        yield Violation(f"{path}.securityContext.seccompProfile", "must be given, here or in the pod")
    capabilities = _object(context.get("capabilities"))
    if "ALL" not in _list(capabilities.get("drop")):
        yield Violation(f"{path}.securityContext.capabilities.drop", "must have ALL")
    added = set(map(str, _list(capabilities.get("add"))))
    if added <= _BASELINE_CAPABILITIES and not added <= _RESTRICTED_CAPABILITIES:
        yield Violation(f"{path}.securityContext.capabilities.add", "may have NET_BIND_SERVICE and nothing else")
    image = container.get("image")
    if image is not None and not is_listed(str(image), allowed.images):
        yield Violation(f"{path}.image", _unlisted(image, "images", "images"))


def _unlisted(name: object, kind: str, setting: str) -> str:
    return f"names {name}, which is not on the list of {kind} (podPolicyExceptions.{setting} of the chart)"


def is_listed(image: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns names an image; `*` at the end stands for any rest."""
    return any(
        image.startswith(pattern.removesuffix("*")) if pattern.endswith("*") else image == pattern
        for pattern in patterns
    )


def _object(value: Any) -> Body:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _objects(value: Any) -> list[Body]:
    return [one for one in _list(value) if isinstance(one, Mapping)]
