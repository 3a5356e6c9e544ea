"""The Job controller: pods until enough of them succeeded, or too many failed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from model_sandbox.client import Obj
from model_sandbox.controllers import indexed_jobs as indexed
from model_sandbox.controllers import pods as about
from model_sandbox.controllers.base import (
    JOBS,
    PODS,
    World,
    condition,
    parse_time,
    stamp,
    status_of,
    with_condition,
)

_FIRST_PAUSE, _MOST_PAUSE = 10.0, 360.0


Pods = Sequence[Obj]


def in_phase(pods: Pods, phase: str) -> list[Obj]:
    """The pods in a phase."""
    return [pod for pod in pods if status_of(pod).get("phase") == phase]


async def reconcile(world: World, job: Obj) -> float | None:
    """One step of a Job."""
    now = datetime.now(UTC)
    if about.is_terminating(job):
        return None
    if ended := condition(job, "Complete") or condition(job, "Failed"):
        return await _expire(world, job, ended, now)
    again, pods = None, world[PODS].owned(job)
    final = outcome(job, pods, now)
    if final is not None or job["spec"].get("suspend"):
        for pod in filter(about.is_active, pods):
            await world.delete(PODS, pod)
    else:
        again = await _start(world, job, pods, now) or job["spec"].get("activeDeadlineSeconds")
    if final is not None:
        kind, reason, message = final
        word = "Completed" if kind == "Complete" else reason
        await world.event(job, word, message, warning=kind != "Complete")
    await world.report(JOBS, job, status(job, world[PODS].owned(job), final, now))
    return again


async def _start(world: World, job: Obj, pods: Pods, now: datetime) -> float:
    """Make the pods that are missing; return the seconds until more may be made."""
    if indexed.is_indexed(job):
        indexes, pause = indexed.missing(job, pods, now, _pause)
        for index in indexes:
            await about.create(world, job, partial(indexed.as_index, index=index))
        return pause
    count, pause = missing(job, pods, now)
    for _ in range(0 if pause else count):
        await about.create(world, job)
    return pause


def outcome(job: Obj, pods: Pods, now: datetime) -> tuple[str, str, str] | None:
    """The final (condition, reason, message) of a Job; None while it goes on."""
    spec, begun = job["spec"], status_of(job).get("startTime")
    for pod in in_phase(pods, "Failed"):
        if indexed.action_of(job, pod) == "FailJob":
            return "Failed", "PodFailurePolicy", f"Pod {pod['metadata']['name']} failed and matches a FailJob rule"
    if len(indexed.counted_failures(job, pods)) > spec.get("backoffLimit", 6):
        return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and begun and now >= parse_time(begun) + timedelta(seconds=deadline):
        return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
    if indexed.is_indexed(job):
        return indexed.outcome(job, pods)
    succeeded, completions = len(in_phase(pods, "Succeeded")), spec.get("completions")
    if succeeded >= completions if completions is not None else succeeded and not any(map(about.is_active, pods)):
        return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
    return None


def missing(job: Obj, pods: Pods, now: datetime) -> tuple[int, float]:
    """How many pods to start, and the seconds to wait before that: longer after each failure."""
    succeeded, failed = len(in_phase(pods, "Succeeded")), in_phase(pods, "Failed")
    wanted, completions = job["spec"].get("parallelism", 1), job["spec"].get("completions")
    if completions is not None:
        wanted = min(wanted, completions - succeeded)
    elif succeeded:
        wanted = 0
    count = max(0, wanted - sum(map(about.is_active, pods)))
    return count, _pause(failed, now) if count else 0.0


def _pause(failed: Pods, now: datetime) -> float:
    """The seconds to wait after some failures."""
    if not failed:
        return 0.0
    pause = min(_FIRST_PAUSE * 2 ** (len(failed) - 1), _MOST_PAUSE)
    return max(0.0, (max(map(_ended, failed)) + timedelta(seconds=pause) - now).total_seconds())


def _ended(pod: Obj) -> datetime:
    states = [one.get("state", {}).get("terminated") for one in status_of(pod).get("containerStatuses") or []]
    times = [state["finishedAt"] for state in states if state]
    return parse_time(max(times, default=pod["metadata"]["creationTimestamp"]))


def status(job: Obj, pods: Pods, final: tuple[str, str, str] | None, now: datetime) -> Obj:
    """The status of a Job."""
    active = [pod for pod in pods if about.is_active(pod)] if final is None else []
    found: Obj = {
        "startTime": status_of(job).get("startTime") or stamp(now),
        "active": len(active),
        "succeeded": len(in_phase(pods, "Succeeded")),
        "failed": len(in_phase(pods, "Failed")),
    }
    if indexed.is_indexed(job):
        found |= _of_indexes(job, pods)
    found = {name: value for name, value in found.items() if value}
    suspended = condition(job, "Suspended")
    if job["spec"].get("suspend") or suspended:
        is_on = bool(job["spec"].get("suspend"))
        reason, message = ("JobSuspended", "Job suspended") if is_on else ("JobResumed", "Job resumed")
        found["conditions"] = with_condition(
            [suspended] if suspended else [], "Suspended", is_on, reason, message, now=now
        )
    found["ready"] = sum(map(about.is_ready, active))
    found["terminating"] = sum(map(about.is_terminating, pods))
    found["uncountedTerminatedPods"] = {}
    if final is not None:
        kind, reason, message = final
        stamps = dict.fromkeys(("lastProbeTime", "lastTransitionTime"), stamp(now))
        ended = {"type": kind, "status": "True", "reason": reason, "message": message, **stamps}
        found["conditions"] = [*found.get("conditions", []), ended]
        if kind == "Complete":
            found["completionTime"] = stamp(now)
    return found


def _of_indexes(job: Obj, pods: Pods) -> Obj:
    done, lost = indexed.completed(job, pods), indexed.failed(job, pods)
    texts = {"completedIndexes": indexed.format_indexes(done), "failedIndexes": indexed.format_indexes(lost)}
    return {"succeeded": len(done), **texts}


async def _expire(world: World, job: Obj, ended: Obj, now: datetime) -> float | None:
    seconds = job["spec"].get("ttlSecondsAfterFinished")
    if seconds is None:
        return None
    left = (parse_time(ended["lastTransitionTime"]) + timedelta(seconds=seconds) - now).total_seconds()
    if left > 0:
        return left
    await world.delete(JOBS, job, propagationPolicy="Background")
    return None
