"""The Job that joins late labels to a model's input log, and its report as text. PURE; used by `commands/labels.py`.

The join itself is the server's (`python -m model_server labels`): its image has the clients of the storages.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modeldeploy.requests import Refused
from modeldeploy.rollout import GROUP

Body = dict[str, Any]

LABELS_OF = f"{GROUP}/labels-of"
REVISION = f"{GROUP}/revision"
SCHEME = f"{GROUP}/scheme"
CONTAINER = "labels"
#: Seconds that Kubernetes keeps a finished Job.
KEPT_SECONDS = 86_400
#: Fields of the server's container that a Job has no use for.
_SERVING = ("ports", "startupProbe", "readinessProbe", "livenessProbe", "lifecycle")
_PERMANENT = [65, 70, 78]
_FAULTS = (
    ("labels", "conflicting", "ids have two different labels, and were not used; the first is {}", "first_conflicting"),
    ("labels", "late", "labels are older than the log", ""),
    ("labels", "unknown", "labels have an id that is not in the log", ""),
    ("labels", "empty", "labels are empty", ""),
    ("log", "broken", "lines of the log are broken; the first is {}", "first_broken"),
    ("log", "other_models", "entries of the log are of another model", ""),
    ("log", "without_id", "entries of the log have no id", ""),
)


def storage_uri(text: str, option: str) -> str:
    """Return a URI that a pod can read. Raises `Refused`."""
    if "://" not in text or (text.startswith(("http://", "https://")) and option == "--log"):
        raise Refused(
            f"{option} {text} cannot be read by a Job of the cluster: put it to a storage (s3://, gs://, az://, "
            f"file:// of the pods), or run `python -m model_server labels` where it lies"
        )
    return text


def sink_of(model: Mapping[str, Any]) -> str:
    """Return the sink of a model's input log. Raises `Refused` where it is no storage."""
    sink = str((((model.get("spec") or {}).get("server") or {}).get("inputLog") or {}).get("sink") or "")
    if "://" not in sink or sink.startswith(("http://", "https://")):
        raise Refused("spec.server.inputLog.sink of this model is no storage: name the log with --log URI")
    return sink


def addresses_of(pods: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the address of one ready pod of each revision: whichever pod counts a label, it counts for its revision.

    Raises `Refused` for pods that speak TLS, whose certificate does not name their address.
    """
    found: dict[str, str] = {}
    for pod in pods:
        labels, status = pod["metadata"].get("labels") or {}, pod.get("status") or {}
        if REVISION not in labels or not status.get("podIP") or not _is_ready(status):
            continue
        if labels.get(SCHEME) == "https":
            raise Refused(
                "its pods speak TLS, and their certificate does not name their addresses: add --dry-run, or run "
                "`python -m model_server labels` with --send and a name of the certificate"
            )
        ip, containers = str(status["podIP"]), pod["spec"]["containers"]
        ports = (port for one in containers for port in one.get("ports", ()) if port.get("name") == "http")
        host = f"[{ip}]" if ":" in ip else ip
        for port in ports:
            found[str(labels[REVISION])] = f"http://{host}:{port['containerPort']}"
    return found


def job_of(model: Mapping[str, Any], deployment: Mapping[str, Any], arguments: Sequence[str]) -> Body:
    """Return the Job: the pod of a revision with other arguments, which no Service selects."""
    name = str(model["metadata"]["name"])
    pod = deployment["spec"]["template"]["spec"]
    server = next(one for one in pod["containers"] if one["name"] == "server")
    container = {key: value for key, value in server.items() if key not in _SERVING}
    container |= {"name": CONTAINER, "args": ["labels", *arguments]}
    rest = {key: value for key, value in pod.items() if key != "terminationGracePeriodSeconds"}
    owner = {
        "apiVersion": model["apiVersion"],
        "kind": model["kind"],
        "name": name,
        "uid": model["metadata"]["uid"],
    }
    rule = {"action": "FailJob", "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": _PERMANENT}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "generateName": f"{name[:40]}-labels-",
            "labels": {LABELS_OF: name[:63]},
            "ownerReferences": [owner],
        },
        "spec": {
            "backoffLimit": 2,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "podFailurePolicy": {"rules": [rule]},
            "template": {
                "metadata": {"labels": {LABELS_OF: name[:63]}},
                "spec": {**rest, "restartPolicy": "Never", "containers": [container]},
            },
        },
    }


def _is_ready(status: Mapping[str, Any]) -> bool:
    conditions = status.get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def last_message(pods: Sequence[Mapping[str, Any]]) -> str:
    """Return what the newest pod of a Job said when it ended; "" where none has."""
    ended = []
    for pod in pods:
        for status in (pod.get("status") or {}).get("containerStatuses") or ():
            terminated = (status.get("state") or {}).get("terminated")
            if status["name"] == CONTAINER and terminated:
                ended.append((str(terminated.get("finishedAt")), str(terminated.get("message") or "")))
    return max(ended, default=("", ""))[1]


def lines_of(report: Mapping[str, Any]) -> Iterator[str]:
    """Return the report as lines: a revision each, and whatever was not used."""
    for revision, one in report["revisions"].items():
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in one["metrics"].items())
        counts = [f"{one['labelled']} labelled of {one['predictions']} predictions", f"{one['sent']} sent"]
        counts += [f"{one[key]} {text}" for key, text in _ROWS.items() if one[key]]
        yield f"{revision} (version {one['version']}): {metrics or 'no metrics'}; {', '.join(counts)}"
        if one["first_refused"]:
            yield f"  the first that was refused: {one['first_refused']}"
        if one.get("not_reached"):
            yield f"  not reached: {one['not_reached']}"
    for part, key, text, first in _FAULTS:
        if count := report[part][key]:
            yield f"{count} {text.format(report[part].get(first, ''))}"
    if report.get("left_out"):
        yield f"{report['left_out']} revisions with fewer labels are left out; the log of the Job has them"


_ROWS = {
    "already_sent": "sent before",
    "not_sent": "not sent",
    "unconfirmed": "unconfirmed",
    "refused": "refused",
    "conflicting": "with two different labels",
    "repeated": "logged twice",
}
