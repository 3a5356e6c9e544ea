"""The Indexed Job of a ModelBatch, and the runs of a schedule. Pure.

Each index of the Job is a shard: https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode
"""

from collections.abc import Mapping
from typing import Any

from model_operator.api.batch import BATCH_KIND, ModelBatch
from model_operator.api.names import batch_labels
from model_operator.api.pod_template import SERVING_FIELDS
from model_operator.api.resource import ObjectKey
from model_operator.api.spec import parse_model, parse_server
from model_operator.api.version import API_VERSION
from model_operator.manifests.evaluation import DATA_SECRET_DIR
from model_operator.manifests.pods import CLAIM_DIR, PORT, PodSettings, pod_template
from model_operator.manifests.strategic_merge import overlay

Body = dict[str, Any]

CONTAINER = "batch"
#: Permanent exit codes of the server (sysexits.h), for which a retry is useless.
_PERMANENT = [65, 70, 78]
#: Settings of a revision that a batch takes over: the others are those of a server.
_TAKEN = ("image", "imagePullPolicy", "logLevel", "accelerate", "env", "resources", "podTemplate")
_SPEC_OF_SCHEDULE = (
    "schedule",
    "timeZone",
    "concurrencyPolicy",
    "startingDeadlineSeconds",
    "successfulRunsHistoryLimit",
    "failedRunsHistoryLimit",
    "suspend",
)


def batch_job(batch: ModelBatch, revision: str, source: Mapping[str, Any], settings: PodSettings) -> Body:
    """Return the Job; `source` has the fields `model` and `server` of a revision, or of the batch's own package."""
    spec = batch.spec
    body: Body = {
        "completionMode": "Indexed",
        "completions": spec.shard_count,
        "parallelism": min(spec.parallelism, spec.shard_count),
        "backoffLimitPerIndex": spec.retries,
        "suspend": spec.suspend,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": _PERMANENT},
                },
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]
        },
        "template": job_template(batch, revision, source, settings),
    }
    if spec.active_deadline_seconds is not None:
        body["activeDeadlineSeconds"] = spec.active_deadline_seconds
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": _metadata(batch, batch.name), "spec": body}


def job_template(batch: ModelBatch, revision: str, source: Mapping[str, Any], settings: PodSettings) -> Body:
    """Return the pod template of the Job: the pod of a server with other arguments and without what only serves."""
    own = batch.spec.server
    given = {name: value for name, value in source.get("server", {}).items() if name in _TAKEN}
    given |= {"image": own.image} if own.image else {}
    given["env"] = [*given.get("env", ()), *own.env]
    given["resources"] = {**given.get("resources", {}), **own.resources}
    given["podTemplate"] = overlay(given.get("podTemplate", {}), own.pod_template)
    model, server = parse_model(source["model"]), parse_server(given)
    key = ObjectKey(batch.key.namespace, batch.spec.model.name or batch.name)
    template = pod_template(key, revision, model, server, settings)
    pod = template["spec"]
    # Other containers would keep the pod from completing.
    container = next(one for one in pod["containers"] if one["name"] == "server")
    container = {name: value for name, value in container.items() if name not in SERVING_FIELDS}
    container["ports"] = [{"name": "http", "containerPort": PORT, "protocol": "TCP"}]
    container |= {"name": CONTAINER, "args": arguments(batch)}
    volumes, mounts = [*pod["volumes"]], [*container["volumeMounts"]]
    _add_data(batch, volumes, mounts)
    container["volumeMounts"] = mounts
    rest = {name: value for name, value in pod.items() if name != "terminationGracePeriodSeconds"}
    written = server.pod_template.get("metadata") or {}
    metadata: Body = {"labels": {**(written.get("labels") or {}), **batch_labels(batch.name)}}
    if written.get("annotations"):
        metadata["annotations"] = dict(written["annotations"])
    return {
        "metadata": metadata,
        "spec": {**rest, "restartPolicy": "Never", "containers": [container], "volumes": volumes},
    }


def arguments(batch: ModelBatch) -> list[str]:
    """Return the arguments of the container (docs/wire.md). The output folder belongs to the uid of the batch."""
    spec = batch.spec
    words = ["batch", "--id", batch.uid, "--input", spec.input.uri, "--input-format", spec.input.format]
    words += ["--output", spec.output.uri, "--output-format", spec.output.format]
    words += ["--shards", str(spec.shard_count), "--on-bad-row", str(spec.on_bad_row)]
    words += [] if spec.input.split else ["--whole-files"]
    words += ["--probabilities"] if spec.probabilities else []
    return words + (["--credentials-dir", DATA_SECRET_DIR] if spec.secret_name else [])


def package_source(batch: ModelBatch) -> Body:
    """Return what stands for a revision where the batch names a package."""
    raw = batch.body["spec"]
    return {"model": dict(raw["model"]), "server": {}}


def run_of(batch: ModelBatch, name: str, places: Mapping[str, str]) -> Body:
    """Return the ModelBatch of one run of a schedule; `places` has the values of `{date}` and `{time}`."""
    spec = {key: value for key, value in batch.body["spec"].items() if key not in _SPEC_OF_SCHEDULE}
    for part in ("input", "output"):
        uri = spec[part]["uri"]
        for word, value in places.items():
            uri = uri.replace(f"{{{word}}}", value)
        spec[part] = {**spec[part], "uri": uri}
    return {"apiVersion": API_VERSION, "kind": BATCH_KIND, "metadata": _metadata(batch, name), "spec": spec}


def _metadata(batch: ModelBatch, name: str) -> Body:
    return {
        "name": name,
        "namespace": batch.key.namespace,
        "labels": batch_labels(batch.name),
        "ownerReferences": [batch.owner_reference],
    }


def _add_data(batch: ModelBatch, volumes: list[Body], mounts: list[Body]) -> None:
    """Add the Secret and the claims of input and output; the claim of the output has to be writable."""
    if batch.spec.secret_name:
        volumes.append({"name": "data-secret", "secret": {"secretName": batch.spec.secret_name}})
        mounts.append({"name": "data-secret", "mountPath": DATA_SECRET_DIR, "readOnly": True})
    for part, uri in (("output", batch.spec.output.uri), ("input", batch.spec.input.uri)):
        claim = uri.removeprefix("pvc://").partition("/")[0] if uri.startswith("pvc://") else ""
        path = f"{CLAIM_DIR}/{claim}"
        mounted = next((one for one in mounts if one["mountPath"] == path), None)
        if not claim or (mounted is not None and part == "input"):
            continue
        if mounted is not None:
            # The model's own claim, which its volume mounts for reading.
            mounts.remove(mounted)
        is_read_only = part == "input"
        volumes.append({"name": part, "persistentVolumeClaim": {"claimName": claim, "readOnly": is_read_only}})
        mounts.append({"name": part, "mountPath": path, "readOnly": is_read_only})
