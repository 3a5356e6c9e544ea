"""Why a pod does not serve, or is not made: Kubernetes' own words and the server's termination message.

The server writes `{"reason", "message", "hint", "permanent"}` to its termination message
(docs/wire.md); that sentence is worth more than `CrashLoopBackOff`, so it wins.
"""

import json
from collections.abc import Iterable

from model_operator.api.json import Body
from model_operator.observation.values import PodProblem

#: Waiting reasons that no further waiting changes: the image has to be another one.
IMAGE_REASONS = frozenset({"InvalidImageName", "ErrImageNeverPull"})
#: Waiting reasons after a pull that failed, for good or because a registry was slow, away or busy.
PULL_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff"})
#: Words of registries by which a pull fails for good: there is no such image, or it may not be read.
_FINAL_PULL_WORDS = (
    "not found",
    "manifest unknown",
    "name unknown",
    "unauthorized",
    "denied",
    "authentication required",
    "invalid reference format",
    "no matching manifest",
)
#: Waiting reasons of a container that is merely on its way.
_STARTING = frozenset({"ContainerCreating", "PodInitializing", ""})
#: Restarts after which a crashing revision counts as broken.
CRASH_LIMIT = 3


def pod_problem(status: Body) -> PodProblem | None:
    """Return why a pod does not serve, or None when nothing is known to be wrong.

    Args:
        status: `status` of a v1 Pod.
    """
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    for container in containers:
        problem = _trouble_of_container(container)
        if problem is not None:
            return problem
    return _unschedulable(status.get("conditions", ()))


def ended_pod_problem(status: Body) -> PodProblem:
    """Return why a pod ended, for example `Evicted` with the resource that its node was short of.

    Args:
        status: `status` of a v1 Pod whose phase is Failed or Succeeded.
    """
    reason, message = status.get("reason") or "", status.get("message") or ""
    if reason:
        return PodProblem(reason=reason, message=_shorten(message))
    return pod_problem(status) or PodProblem(reason=status.get("phase", "Failed"), message="the pod has ended")


def deployment_problem(status: Body) -> PodProblem | None:
    """Return why the cluster makes no pods: a quota, an admission policy, a missing ServiceAccount.

    Args:
        status: `status` of an apps/v1 Deployment.
    """
    for condition in status.get("conditions") or ():
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return PodProblem(
                reason=condition.get("reason") or "FailedCreate", message=_shorten(condition.get("message", ""))
            )
    return None


def autoscaler_problem(status: Body) -> PodProblem | None:
    """Return why a number of pods does not follow the load, as for want of metrics or of a request for CPU.

    Args:
        status: `status` of an autoscaling/v2 HorizontalPodAutoscaler.
    """
    for condition in status.get("conditions") or ():
        is_off = condition.get("type") in ("AbleToScale", "ScalingActive") and condition.get("status") == "False"
        if is_off and condition.get("reason") != "ScalingDisabled":
            message = condition.get("message", "")
            return PodProblem(reason=condition.get("reason") or "Unknown", message=_shorten(message) + _hint(message))
    return None


def _hint(message: str) -> str:
    """Return what to do about a message of an autoscaler, empty where the message says it all."""
    for resource in ("cpu", "memory"):
        if f"missing request for {resource}" in message:
            return f"; set spec.server.resources.requests.{resource}"
    if "custom metrics API" in message:
        return "; install an adapter that serves the metric, as docs/rollouts.md describes for prometheus-adapter"
    return ""


def is_terminal(problem: PodProblem) -> bool:
    """Whether the revision has failed, so that its rollout need not wait for the deadline."""
    is_image_wrong = problem.reason in IMAGE_REASONS or is_pull_refused(problem)
    return problem.is_permanent or is_image_wrong or problem.restarts >= CRASH_LIMIT


def is_pull_refused(problem: PodProblem) -> bool:
    """Whether the registry refused an image for good, after the kubelet has tried more than once.

    One failed pull may be a limit of requests or a registry that restarts, so the first error never counts, and a
    back-off counts by what the registry said.
    """
    text = problem.message.lower()
    return problem.reason == "ImagePullBackOff" and any(word in text for word in _FINAL_PULL_WORDS)


def most_severe(problems: Iterable[PodProblem]) -> PodProblem | None:
    """Return the problem that says most: fatal before others, then most restarts."""
    return max(problems, key=lambda problem: (is_terminal(problem), problem.restarts), default=None)


def _trouble_of_container(container: Body) -> PodProblem | None:
    if container.get("ready"):
        return None
    state = container.get("state", {})
    ended = state.get("terminated") or container.get("lastState", {}).get("terminated")
    restarts = container.get("restartCount", 0)
    waiting = state.get("waiting", {})
    if ended and ended.get("exitCode", 0) != 0:
        return _from_termination(ended, restarts, waiting)
    if waiting.get("reason", "") in _STARTING:
        return None
    return PodProblem(reason=waiting["reason"], message=waiting.get("message", ""), restarts=restarts)


def _from_termination(ended: Body, restarts: int, waiting: Body) -> PodProblem:
    written = ended.get("message", "")
    try:
        told = json.loads(written)
        reason, message = str(told["reason"]), str(told["message"])
    except (ValueError, KeyError, TypeError):
        reason = ended.get("reason") or waiting.get("reason") or "Error"
        message = _last_log_line(written) or f"the server ended with exit code {ended['exitCode']}"
        return PodProblem(reason=reason, message=_shorten(message), restarts=restarts)
    hint = str(told.get("hint") or "")
    return PodProblem(
        reason=reason,
        message=_shorten(f"{message}. {hint}" if hint else message),
        restarts=restarts,
        is_permanent=bool(told.get("permanent")),
    )


def _last_log_line(logs: str) -> str:
    """Return what the last line of a log says; the kubelet gives the log's end when nothing else was told."""
    last = logs.strip().rpartition("\n")[2]
    try:
        return str(json.loads(last)["message"])
    except (ValueError, KeyError, TypeError):
        return last


def _unschedulable(conditions: Iterable[Body]) -> PodProblem | None:
    for condition in conditions:
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return PodProblem(reason="Unschedulable", message=condition.get("message", ""))
    return None


def _shorten(text: str, limit: int = 1024) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
