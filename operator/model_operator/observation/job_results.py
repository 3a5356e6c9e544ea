"""Reads the results of evaluations from their Jobs and pods; `observe` calls it.

The result is in the termination message of a pod (docs/wire.md), so that the server needs no access to the cluster.
"""

from collections.abc import Iterator, Mapping

from model_operator.api.json import Body
from model_operator.api.names import EVALUATION
from model_operator.observation.pod_failures import most_severe, pod_problem, shorten
from model_operator.observation.termination import last_line, read_evaluation, read_failure
from model_operator.observation.values import Measurement

Children = Mapping[tuple[str, str], Body]


def measured(children: Children) -> Mapping[str, Measurement]:
    """Return the results by the name of the Job; Jobs that still run, or will be retried, are not included."""
    jobs = {name: body for (kind, name), body in children.items() if kind == "Job"}
    ends = {name: _end_of(job, list(_ends(children, name))) for name, job in jobs.items()}
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


def _end_of(job: Body, ends: list[Body]) -> Measurement | None:
    texts = [ended.get("message", "") for ended in ends]
    for result in filter(None, map(read_evaluation, texts)):
        values = {name: value for name, value in result.metrics.items() if value is not None}
        return Measurement(values=values, rows=result.rows, groups=result.groups, notes=result.notes)
    reports = [read_failure(text) for text in texts]
    permanent = next((report for report in reports if report and report.permanent), None)
    failed = next((c for c in _conditions(job) if c["type"] == "Failed" and c["status"] == "True"), None)
    if permanent is None and failed is None:
        return None
    report = permanent or (reports[-1] if reports else None)
    if report is not None:
        return Measurement(error=shorten(f"{report.reason}: {report.message} {report.hint}".strip()))
    if ends:
        # A process that was killed, or out of memory.
        message = last_line(texts[-1]) or f"exit code {ends[-1].get('exitCode')}"
        return Measurement(error=shorten(f"{ends[-1].get('reason', 'Error')}: {message}"))
    why = failed or {}
    return Measurement(error=shorten(f"{why.get('reason', 'Failed')}: {why.get('message', '')}"))


def _ends(children: Children, job: str) -> Iterator[Body]:
    """Yield how the containers of the Job's pods ended."""
    for pod in _pods(children, job):
        for container in (pod.get("status") or {}).get("containerStatuses", ()):
            ended = (container.get("state") or {}).get("terminated")
            if ended:
                yield ended


def _pods(children: Children, job: str) -> Iterator[Body]:
    for (kind, _), body in sorted(children.items()):
        if kind == "Pod" and (body["metadata"].get("labels") or {}).get(EVALUATION) == job:
            yield body


def _conditions(job: Body) -> list[Body]:
    return list((job.get("status") or {}).get("conditions") or ())
