"""The Job that evaluates one revision on labelled data: the pod of the revision with other arguments (docs/wire.md)."""

from collections.abc import Mapping
from typing import Any

from model_operator.api.names import EVALUATES, EVALUATION, MANAGED_BY, MANAGER
from model_operator.api.pod_template import SERVING_FIELDS
from model_operator.api.resource import ModelDeployment
from model_operator.api.spec import parse_model, parse_server
from model_operator.api.steps import Evaluate
from model_operator.manifests.metadata import owned_object
from model_operator.manifests.pods import CLAIM_DIR, PodSettings, pod_template

Body = dict[str, Any]

DATA_SECRET_DIR = "/var/run/secrets/modeldeploy/data"  # noqa: S105 -- a folder
#: Permanent exit codes of the server (sysexits.h), for which a retry is useless.
_PERMANENT = [65, 70, 78]


def evaluation_job(
    owner: ModelDeployment, name: str, revision: str, source: Mapping[str, Any], step: Evaluate, settings: PodSettings
) -> Body:
    """Return the Job; `source` is the revision's part of the spec, possibly of an older spec.

    It is retried twice, for example for storage that does not respond, and never after a permanent error.
    """
    spec = {
        "backoffLimit": 2,
        "activeDeadlineSeconds": int(step.timeout.total_seconds()),
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": "evaluate", "operator": "In", "values": _PERMANENT},
                }
            ]
        },
        "template": _template(owner, name, revision, source, step, settings),
    }
    return owned_object(owner, "batch/v1", "Job", name, {"spec": spec}, labels={EVALUATION: name})


def _template(
    owner: ModelDeployment, name: str, revision: str, source: Mapping[str, Any], step: Evaluate, settings: PodSettings
) -> Body:
    model, server = parse_model(source["model"]), parse_server(source["server"], source.get("monitoring"))
    pod = pod_template(owner.key, revision, model, server, settings)["spec"]
    # Other containers of the overlay would keep the pod from completing.
    container = next(one for one in pod["containers"] if one["name"] == "server")
    container = {key: value for key, value in container.items() if key not in SERVING_FIELDS}
    container |= {"name": "evaluate", "args": _arguments(step)}
    volumes = list(pod["volumes"])
    if step.secret_name:
        volumes.append({"name": "data-secret", "secret": {"secretName": step.secret_name}})
        mount = {"name": "data-secret", "mountPath": DATA_SECRET_DIR, "readOnly": True}
        container["volumeMounts"] = [*container["volumeMounts"], mount]
    claim = step.dataset.removeprefix("pvc://").partition("/")[0] if step.dataset.startswith("pvc://") else ""
    if claim and not any(mount["mountPath"] == f"{CLAIM_DIR}/{claim}" for mount in container["volumeMounts"]):
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}})
        mount = {"name": "data", "mountPath": f"{CLAIM_DIR}/{claim}", "readOnly": True}
        container["volumeMounts"] = [*container["volumeMounts"], mount]
    labels = {MANAGED_BY: MANAGER, EVALUATES: owner.name, EVALUATION: name}
    rest = {key: value for key, value in pod.items() if key != "terminationGracePeriodSeconds"}
    return {
        "metadata": {"labels": labels},
        "spec": {**rest, "restartPolicy": "Never", "containers": [container], "volumes": volumes},
    }


def _arguments(step: Evaluate) -> list[str]:
    measures = ",".join(limit.name for limit in step.limits)
    words = ["evaluate", "--data", step.dataset, "--target", step.target, "--metrics", measures]
    if step.groups:
        words += ["--groups", ",".join(step.groups)]
    return [*words, "--credentials-dir", DATA_SECRET_DIR] if step.secret_name else words
