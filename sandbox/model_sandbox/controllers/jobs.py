"""The Job controller: pods until enough of them succeeded, or too many failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from model_sandbox.cache import Cache, Key
from model_sandbox.client import Client, Obj
from model_sandbox.controllers import pods as about
from model_sandbox.controllers.base import JOBS, PODS, Recorder, parse_time, stamp
from model_sandbox.controllers.replicaset import pod_of

_FIRST_PAUSE, _MOST_PAUSE = 10.0, 360.0


def _phase(pods: Sequence[Obj], phase: str) -> list[Obj]:
    return [pod for pod in pods if (pod.get("status") or {}).get("phase") == phase]


def outcome(job: Obj, pods: Sequence[Obj], now: datetime) -> tuple[str, str, str] | None:
    """The final (condition, reason, message) of a Job; None while it goes on."""
    spec, status = job["spec"], job.get("status") or {}
    failed, succeeded = len(_phase(pods, "Failed")), len(_phase(pods, "Succeeded"))
    completions = spec.get("completions")
    if failed > spec.get("backoffLimit", 6):
        return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    deadline = spec.get("activeDeadlineSeconds")
    begun = status.get("startTime")
    if deadline is not None and begun and now >= parse_time(begun) + timedelta(seconds=deadline):
        return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
    active = any(about.is_active(pod) for pod in pods)
    if (completions is None and succeeded and not active) or (completions is not None and succeeded >= completions):
        return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
    return None


def missing(job: Obj, pods: Sequence[Obj], now: datetime) -> tuple[int, float]:
    """How many pods to start, and the seconds to wait before that: longer after each failure."""
    spec = job["spec"]
    active = sum(about.is_active(pod) for pod in pods)
    succeeded, failed = len(_phase(pods, "Succeeded")), _phase(pods, "Failed")
    completions = spec.get("completions")
    wanted = spec.get("parallelism", 1)
    if completions is not None:
        wanted = min(wanted, completions - succeeded)
    elif succeeded:
        wanted = active
    if wanted <= active or not failed:
        return max(0, wanted - active), 0.0
    last = max(parse_time(_ended(pod)) for pod in failed)
    pause = min(_FIRST_PAUSE * 2 ** (len(failed) - 1), _MOST_PAUSE)
    return wanted - active, max(0.0, (last + timedelta(seconds=pause) - now).total_seconds())


def _ended(pod: Obj) -> str:
    states = (one.get("state", {}).get("terminated") for one in pod["status"].get("containerStatuses") or [])
    return max(
        (str(state["finishedAt"]) for state in states if state), default=str(pod["metadata"]["creationTimestamp"])
    )


@dataclass(slots=True)
class Jobs:
    """Keeps the pods of Jobs."""

    _client: Client
    _jobs: Cache
    _pods: Cache
    _recorder: Recorder

    async def reconcile(self, key: Key) -> float | None:
        """One step of a Job."""
        job = self._jobs.get(*key)
        if job is None or about.is_terminating(job):
            return None
        now = datetime.now(UTC)
        ended = about.condition(job, "Complete") or about.condition(job, "Failed")
        if ended is not None:
            return await self._expire(job, ended, now)
        pods = self._pods.owned(job["metadata"]["uid"])
        final = outcome(job, pods, now)
        again: float | None = None
        if final is not None or job["spec"].get("suspend"):
            for pod in filter(about.is_active, pods):
                await self._client.delete(PODS.path(key[0], pod["metadata"]["name"]))
        else:
            count, again = missing(job, pods, now)
            for _ in range(0 if again else count):
                pod = await self._pods.create(pod_of(job, job["spec"]["template"]))
                await self._recorder.event(job, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
            deadline = job["spec"].get("activeDeadlineSeconds")
            again = again or (float(deadline) if deadline is not None else None)
        await self._report(job, final, now)
        return again

    async def _expire(self, job: Obj, ended: Obj, now: datetime) -> float | None:
        seconds = job["spec"].get("ttlSecondsAfterFinished")
        if seconds is None:
            return None
        left = (parse_time(ended["lastTransitionTime"]) + timedelta(seconds=seconds) - now).total_seconds()
        if left > 0:
            return left
        meta = job["metadata"]
        await self._client.delete(JOBS.path(meta["namespace"], meta["name"]), propagationPolicy="Background")
        return None

    async def _report(self, job: Obj, final: tuple[str, str, str] | None, now: datetime) -> None:
        before = job.get("status") or {}
        pods = self._pods.owned(job["metadata"]["uid"])
        active = [pod for pod in pods if about.is_active(pod)]
        status: Obj = {
            "startTime": before.get("startTime") or stamp(now),
            "active": len(active) if final is None else 0,
            "ready": sum(map(about.is_ready, active)) if final is None else 0,
            "succeeded": len(_phase(pods, "Succeeded")),
            "failed": len(_phase(pods, "Failed")),
            "terminating": sum(about.is_terminating(pod) for pod in pods),
            "uncountedTerminatedPods": {},
        }
        status = {
            name: value
            for name, value in status.items()
            if value or name in ("ready", "uncountedTerminatedPods", "terminating")
        }
        if final is not None:
            kind, reason, message = final
            stamps = {"lastProbeTime": stamp(now), "lastTransitionTime": stamp(now)}
            status["conditions"] = [{"type": kind, "status": "True", "reason": reason, "message": message, **stamps}]
            if kind == "Complete":
                status["completionTime"] = stamp(now)
            word = "Completed" if kind == "Complete" else reason
            await self._recorder.event(job, word, message, kind="Normal" if kind == "Complete" else "Warning")
        await self._jobs.report(job, status)
