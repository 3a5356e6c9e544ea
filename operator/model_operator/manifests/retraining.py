"""The Job that trains a model again (`hooks.retrain.jobTemplate`), with the reason in its environment."""

from collections.abc import Mapping
from typing import Any

from model_operator.api.names import own_labels
from model_operator.api.resource import ModelDeployment
from model_operator.api.status import Retraining
from model_operator.api.times import format_time
from model_operator.manifests.metadata import owned_object

Body = dict[str, Any]


def retraining_job(owner: ModelDeployment, request: Retraining, template: Mapping[str, Any]) -> Body:
    """Return the Job; the environment of every container has the model and the reason.

    Raises nothing: the API server rejects an invalid template, with the name of the field.
    """
    metadata, spec = template.get("metadata") or {}, dict(template["spec"])
    pod_template = dict(spec["template"])
    pod_spec = dict(pod_template["spec"])
    variables = _variables(owner, request)
    for kind in ("initContainers", "containers"):
        if kind in pod_spec:
            pod_spec[kind] = [_with_environment(container, variables) for container in pod_spec[kind]]
    # The default restartPolicy is Always, which the API server rejects for a Job.
    pod_spec.setdefault("restartPolicy", "Never")
    spec["template"] = {**pod_template, "spec": pod_spec}
    return owned_object(
        owner,
        "batch/v1",
        "Job",
        request.job,
        {"spec": spec},
        labels={**(metadata.get("labels") or {}), **own_labels(owner.name)},
        annotations=metadata.get("annotations"),
    )


def _variables(owner: ModelDeployment, request: Retraining) -> Mapping[str, str]:
    return {
        "MODELDEPLOY_NAME": owner.name,
        "MODELDEPLOY_NAMESPACE": owner.key.namespace,
        "MODELDEPLOY_REVISION": request.revision,
        "MODELDEPLOY_REASON": request.reason,
        "MODELDEPLOY_REQUESTED_AT": format_time(request.requested_at),
    }


def _with_environment(container: Mapping[str, Any], variables: Mapping[str, str]) -> Body:
    """Return a container with the added variables, except those that it defines itself."""
    own = container.get("env") or []
    names = {entry["name"] for entry in own}
    ours = [{"name": name, "value": value} for name, value in variables.items() if name not in names]
    return {**container, "env": [*ours, *own]}
