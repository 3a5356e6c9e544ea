"""What an Indexed Job has besides other Jobs: a pod for each index, with its own retries. Pure; used by `jobs.py`.

https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

from model_sandbox.client import Obj
from model_sandbox.controllers import pods as about
from model_sandbox.controllers.base import condition, status_of

INDEX = "batch.kubernetes.io/job-completion-index"


def is_indexed(job: Obj) -> bool:
    """Whether each completion has an index."""
    return bool(job["spec"].get("completionMode") == "Indexed")


def index_of(pod: Obj) -> int:
    """The index of a pod."""
    return int(pod["metadata"]["labels"][INDEX])


def completed(job: Obj, pods: Sequence[Obj]) -> set[int]:
    """The indexes that succeeded, now or before their pods were deleted."""
    held = set(parse_indexes(status_of(job).get("completedIndexes", "")))
    return held | {index_of(pod) for pod in pods if status_of(pod).get("phase") == "Succeeded"}


def failed(job: Obj, pods: Sequence[Obj]) -> set[int]:
    """The indexes that will not be tried again."""
    held = set(parse_indexes(status_of(job).get("failedIndexes", "")))
    limit, failures = job["spec"].get("backoffLimitPerIndex"), [index_of(pod) for pod in counted_failures(job, pods)]
    over = {index for index in failures if limit is not None and failures.count(index) > limit}
    return (held | over) - completed(job, pods)


def outcome(job: Obj, pods: Sequence[Obj]) -> tuple[str, str, str] | None:
    """The final (condition, reason, message) of an Indexed Job; None while it goes on."""
    done, lost = completed(job, pods), failed(job, pods)
    if len(done | lost) < job["spec"]["completions"]:
        return None
    if lost:
        return "Failed", "FailedIndexes", "Job has failed indexes"
    return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"


def missing(
    job: Obj, pods: Sequence[Obj], now: datetime, pause_of: Callable[[Sequence[Obj], datetime], float]
) -> tuple[list[int], float]:
    """The indexes to start a pod for, and the seconds until one more may be tried again (0: none waits)."""
    taken = completed(job, pods) | failed(job, pods)
    taken |= {index_of(pod) for pod in pods if not about.is_finished(pod)}
    room = job["spec"].get("parallelism", 1) - sum(map(about.is_active, pods))
    ready: list[tuple[int, float]] = []
    waits: list[tuple[int, float]] = []
    for index in range(job["spec"]["completions"]):
        if index not in taken:
            pause = pause_of([pod for pod in counted_failures(job, pods) if index_of(pod) == index], now)
            (waits if pause else ready).append((index, pause))
    return [index for index, _ in ready[: max(0, room)]], min((pause for _, pause in waits), default=0.0)


def as_index(pod: Obj, index: int) -> Obj:
    """The pod of one index: with its label, its annotation, its host name and JOB_COMPLETION_INDEX."""
    metadata, name = pod["metadata"], pod["metadata"]["generateName"]
    marks = {kind: {**metadata.get(kind, {}), INDEX: str(index)} for kind in ("labels", "annotations")}
    field = {
        "name": "JOB_COMPLETION_INDEX",
        "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}},
    }
    parts = {
        kind: [{**one, "env": [*(one.get("env") or []), field]} for one in pod["spec"][kind]]
        for kind in ("initContainers", "containers")
        if pod["spec"].get(kind)
    }
    spec = {"hostname": f"{name}{index}", **pod["spec"], **parts}
    return {**pod, "metadata": {**metadata, **marks, "generateName": f"{name}{index}-"}, "spec": spec}


def counted_failures(job: Obj, pods: Sequence[Obj]) -> list[Obj]:
    """The failed pods that count: not those that are being deleted, nor those that a rule ignores."""
    found = [pod for pod in pods if status_of(pod).get("phase") == "Failed" and not about.is_terminating(pod)]
    return [pod for pod in found if action_of(job, pod) != "Ignore"]


def action_of(job: Obj, pod: Obj) -> str:
    """What `podFailurePolicy` says of a failed pod; `Count` without a rule."""
    rules = (job["spec"].get("podFailurePolicy") or {}).get("rules") or ()
    return next((rule["action"] for rule in rules if _matches(rule, pod)), "Count")


def _matches(rule: Obj, pod: Obj) -> bool:
    if codes := rule.get("onExitCodes"):
        return any(
            (code in codes["values"]) == (codes["operator"] == "In")
            for name, code in _exit_codes(pod)
            if code and codes.get("containerName") in (None, name)
        )
    wanted = rule.get("onPodConditions") or ()
    return any((condition(pod, one["type"]) or {}).get("status") == one.get("status", "True") for one in wanted)


def _exit_codes(pod: Obj) -> Iterator[tuple[str, int]]:
    for one in status_of(pod).get("containerStatuses") or ():
        if ended := one.get("state", {}).get("terminated"):
            yield one["name"], ended["exitCode"]


def parse_indexes(text: str) -> Iterator[int]:
    """The numbers of a list such as `1,3-5`."""
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def format_indexes(indexes: Iterable[int]) -> str:
    """Numbers as a Job lists them."""
    groups = itertools.groupby(enumerate(sorted(indexes)), key=lambda pair: pair[1] - pair[0])
    spans = [[index for _, index in group] for _, group in groups]
    return ",".join(f"{one[0]}-{one[-1]}" if len(one) > 1 else str(one[0]) for one in spans)
