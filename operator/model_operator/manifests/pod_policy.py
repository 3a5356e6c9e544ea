"""Whether the pods of a ModelDeployment keep the policy of their namespace (`podPolicy` of the chart). Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model_operator.api.pod_template import OWN_CONTAINER, SERVER_CONTAINER
from model_operator.api.resource import ModelDeployment
from model_operator.errors import NotAllowed
from model_operator.manifests.pod_security import Allowed, Level, Violation, violations
from model_operator.manifests.pods import IMAGE_VOLUME, PodSettings, pod_template

POLICY = "PodPolicyViolated"
#: So many violations are named; a pod that is wrong in all its parts has dozens.
_NAMED = 8
#: Where images come from that no overlay names.
_FROM_SERVER = {
    f"spec.containers[{SERVER_CONTAINER}].image": "spec.server.image",
    "spec.initContainers[fetch].image": "spec.server.image",
    f"spec.containers[{OWN_CONTAINER}].image": "spec.server.container.image",
}
_OVERLAY, _JOB = "spec.server.podTemplate", "spec.hooks.retrain.jobTemplate.spec.template"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodPolicy:
    """The level of each namespace that has another than `level`, and what is allowed nevertheless."""

    level: Level = "restricted"
    namespaces: Mapping[str, Level] = field(default_factory=dict)
    allowed: Allowed = field(default_factory=Allowed)

    def level_of(self, namespace: str) -> Level:
        """Return the level of a namespace."""
        return self.namespaces.get(namespace, self.level)


def check_pods(resource: ModelDeployment, settings: PodSettings, policy: PodPolicy) -> None:
    """Check the pods of a new revision, and those of the Job that trains its model.

    Raises:
        NotAllowed: the policy of the namespace refuses them; the message names the fields and the setting.
    """
    namespace = resource.key.namespace
    found = [
        f"{_written(resource, origin, one.path)} {one.problem}"
        for origin, template in _templates(resource, settings)
        for one in _violations(namespace, template, settings, policy)
    ]
    # One image may be that of two containers.
    _refuse(namespace, policy, list(dict.fromkeys(found)))


def check_template(namespace: str, template: Mapping[str, Any], settings: PodSettings, policy: PodPolicy) -> None:
    """Check the pod template of a batch; fields are named by their path in it.

    Raises:
        NotAllowed: as `check_pods`.
    """
    found = _violations(namespace, template, settings, policy)
    _refuse(namespace, policy, [f"{_OVERLAY}.{one.path} {one.problem}" for one in found])


def check_pool_template(
    namespace: str, template: Mapping[str, Any], overlay: Mapping[str, Any], settings: PodSettings, policy: PodPolicy
) -> None:
    """Check the pod template of a pool, into which `overlay` was merged.

    Raises:
        NotAllowed: as `check_pods`.
    """
    found = _violations(namespace, template, settings, policy)
    written = [
        _FROM_SERVER[one.path]
        if one.path in _FROM_SERVER and not _names_image(overlay, one.path)
        else f"{_OVERLAY}.{one.path}"
        for one in found
    ]
    _refuse(namespace, policy, [f"{path} {one.problem}" for path, one in zip(written, found, strict=True)])


def _violations(
    namespace: str, template: Mapping[str, Any], settings: PodSettings, policy: PodPolicy
) -> list[Violation]:
    images = (settings.image, *policy.allowed.images)
    allowed = Allowed(
        images=images, service_accounts=policy.allowed.service_accounts, host_paths=policy.allowed.host_paths
    )
    return list(violations(template, policy.level_of(namespace), allowed))


def _refuse(namespace: str, policy: PodPolicy, found: Sequence[str]) -> None:
    if found:
        more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise NotAllowed(
            f"{'; '.join(found[:_NAMED])}{more}. The pod policy of namespace {namespace} is"
            f" {policy.level_of(namespace)};"
            " the administrator of the cluster sets it by podPolicy of the chart and exceptions by podPolicyExceptions",
            reason=POLICY,
        )


def _templates(resource: ModelDeployment, settings: PodSettings) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the pod templates, each after the path of the field that it comes from."""
    spec = resource.spec
    yield _OVERLAY, pod_template(resource.key, resource.target, spec.model, spec.server, settings)
    retrain = spec.hooks.retrain
    if retrain is not None and retrain.job_template is not None:
        yield _JOB, retrain.job_template["spec"]["template"]


def _written(resource: ModelDeployment, origin: str, path: str) -> str:
    """Return where the user wrote what is at a path of the merged template."""
    if origin == _OVERLAY and path in _FROM_SERVER and not _names_image(resource.spec.server.pod_template, path):
        return _FROM_SERVER[path]
    if origin == _OVERLAY and path == "spec.volumes[cache].hostPath" and resource.spec.model.cache_path:
        return "spec.model.cache.hostPath"
    if origin == _OVERLAY and path == f"spec.volumes[{IMAGE_VOLUME}].image" and resource.spec.model.image:
        return "spec.model.storageUri"
    return f"{origin}.{path}"


def _names_image(overlay: Mapping[str, Any], path: str) -> bool:
    """Whether the overlay names the image at a path of the merged template."""
    spec = overlay.get("spec") or {}
    return any(
        f"spec.{kind}[{one['name']}].image" == path and one.get("image") is not None
        for kind in ("containers", "initContainers")
        for one in spec.get(kind) or ()
    )
