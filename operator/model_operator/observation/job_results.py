"""Reads the results of evaluations from their Jobs and pods; `observe` calls it.

The result is in the termination message of a pod (docs/wire.md), so that the server needs no access to the cluster.
"""

from collections.abc import Iterator, Mapping

import orjson

from model_operator.api.json import Body
from model_operator.api.names import EVALUATION
from model_operator.observation.pod_failures import most_severe, pod_problem
from model_operator.observation.values import Measurement

Children = Mapping[tuple[str, str], Body]


def measured(children: Children) -> Mapping[str, Measurement]:
    """Return the results by the name of the Job; Jobs that still run, or will be retried, are not included."""
    jobs = {name: body for (kind, name), body in children.items() if kind == "Job"}
    ends = {name: _end_of(job, list(_messages(children, name))) for name, job in jobs.items()}
    return {name: end for name, end in ends.items() if end is not None}


def hindrances(children: Children) -> Mapping[str, str]:
    """Return the problems that keep unfinished Jobs from measuring, by their names."""
    found = {}
    for (kind, name), job in children.items():
        if kind == "Job" and not any(c["type"] in ("Complete", "Failed") for c in _conditions(job)):
            pods = list(_pods(children, name))
            problem = most_severe(filter(None, (pod_problem(pod.get("status") or {}) for pod in pods)))
            status = job.get("status") or {}
            if problem:
                found[name] = f"{problem.reason}: {problem.message}"
            elif status.get("startTime") and not status.get("active") and not pods:
                # Only the Events of the Job say why it has no pod.
                found[name] = f"it has no pod; for the reason, run kubectl describe job {name}"
    return found


def _end_of(job: Body, messages: list[Body]) -> Measurement | None:
    for message in messages:
        if "metrics" in message:
            return Measurement(values=message["metrics"], rows=message.get("rows", 0))
    permanent = next((message for message in messages if message.get("permanent")), None)
    failed = next((c for c in _conditions(job) if c["type"] == "Failed" and c["status"] == "True"), None)
    if permanent is None and failed is None:
        return None
    failure = permanent or (messages[-1] if messages else {})
    if "reason" in failure:
        return Measurement(error=f"{failure['reason']}: {failure.get('message', '')} {failure.get('hint', '')}".strip())
    why = failed or {}
    return Measurement(error=f"{why.get('reason', 'Failed')}: {why.get('message', '')}")


def _messages(children: Children, job: str) -> Iterator[Body]:
    """Yield the termination messages of the Job's pods, as JSON objects."""
    for pod in _pods(children, job):
        for container in (pod.get("status") or {}).get("containerStatuses", ()):
            ended = (container.get("state") or {}).get("terminated")
            if ended:
                yield _message(ended)


def _pods(children: Children, job: str) -> Iterator[Body]:
    for (kind, _), body in sorted(children.items()):
        if kind == "Pod" and (body["metadata"].get("labels") or {}).get(EVALUATION) == job:
            yield body


def _message(ended: Body) -> Body:
    """Parse a termination message; one that is not JSON comes from a process that was killed or out of memory."""
    text = ended.get("message", "")
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    if isinstance(found, dict):
        return found
    last = (text.strip().splitlines() or [""])[-1]
    return {"reason": ended.get("reason", "Error"), "message": last or f"exit code {ended.get('exitCode')}"}


def _conditions(job: Body) -> list[Body]:
    return list((job.get("status") or {}).get("conditions") or ())
