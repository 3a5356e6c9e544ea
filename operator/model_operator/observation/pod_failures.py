"""Failures of pods, from the reasons of Kubernetes and the termination message of the server.

The server writes `{"reason", "message", "hint", "permanent"}` to its termination message
(docs/wire.md), which is more specific than `CrashLoopBackOff` and takes precedence.
"""

from collections.abc import Iterable

from model_operator.api.json import Body
from model_operator.observation.termination import last_line, read_failure
from model_operator.observation.values import PodProblem, RevisionView

#: Permanent waiting reasons: the image must change.
IMAGE_REASONS = frozenset({"InvalidImageName", "ErrImageNeverPull"})
#: Waiting reasons after a failed pull, permanent or caused by a slow, unavailable or busy registry.
PULL_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff"})
#: Parts of messages of registries that mean a permanent failure: the image does not exist, or access is denied.
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
#: Waiting reasons of a container that is starting normally.
_STARTING = frozenset({"ContainerCreating", "PodInitializing", ""})
#: What the kubelet says while a Secret or ConfigMap of the spec, or a key of it, is not there.
_CONFIG_ERROR, _ABSENT = "CreateContainerConfigError", ("not found", "couldn't find key")
_MAKE_IT = "make it in this namespace, and the pod starts, or correct its name in the spec"
#: Restarts after which a crashing revision counts as failed.
CRASH_LIMIT = 3


def pod_problem(status: Body) -> PodProblem | None:
    """Return why a pod does not serve, or None if no problem is known.

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
    """Return why a pod ended, such as `Evicted` with the resource that its node lacked.

    Args:
        status: `status` of a v1 Pod whose phase is Failed or Succeeded.
    """
    reason, message = status.get("reason") or "", status.get("message") or ""
    if reason:
        return PodProblem(reason=reason, message=shorten(message))
    return pod_problem(status) or PodProblem(reason=status.get("phase", "Failed"), message="the pod has ended")


def deployment_problem(status: Body) -> PodProblem | None:
    """Return why the cluster creates no pods, such as a quota, an admission policy, or a missing ServiceAccount.

    Args:
        status: `status` of an apps/v1 Deployment.
    """
    for condition in status.get("conditions") or ():
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return PodProblem(
                reason=condition.get("reason") or "FailedCreate", message=shorten(condition.get("message", ""))
            )
    return None


def autoscaler_problem(status: Body) -> PodProblem | None:
    """Return why the autoscaler cannot scale, such as missing metrics or a missing CPU request.

    Args:
        status: `status` of an autoscaling/v2 HorizontalPodAutoscaler.
    """
    for condition in status.get("conditions") or ():
        is_off = condition.get("type") in ("AbleToScale", "ScalingActive") and condition.get("status") == "False"
        if is_off and condition.get("reason") != "ScalingDisabled":
            message = condition.get("message", "")
            return PodProblem(reason=condition.get("reason") or "Unknown", message=shorten(message) + _hint(message))
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
    """Whether the revision has failed for good, so that its rollout does not wait for the deadline."""
    is_image_wrong = problem.reason in IMAGE_REASONS or is_pull_refused(problem)
    return problem.is_permanent or is_image_wrong or problem.restarts >= CRASH_LIMIT


def is_pull_refused(problem: PodProblem) -> bool:
    """Whether the registry rejects an image for good, after more than one attempt of the kubelet.

    One failed pull may be caused by rate limiting or a restart of the registry, so the first error does not count; a
    back-off counts by the message of the registry.
    """
    text = problem.message.lower()
    return problem.reason == "ImagePullBackOff" and any(word in text for word in _FINAL_PULL_WORDS)


def most_severe(problems: Iterable[PodProblem]) -> PodProblem | None:
    """Return the most severe problem: terminal ones first, then by the number of restarts."""
    return max(problems, key=lambda problem: (is_terminal(problem), problem.restarts), default=None)


def why_not_available(view: RevisionView) -> str:
    """Return why pods of a revision are not available, to follow a sentence; empty if nothing is known."""
    problem = most_severe(view.problems)
    if problem:
        return f": {problem.reason}: {problem.message}"
    return f": {view.starting}" if view.starting else ""


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
    message = waiting.get("message", "")
    if waiting["reason"] == _CONFIG_ERROR and any(word in message for word in _ABSENT):
        message += f"; {_MAKE_IT}"
    return PodProblem(reason=waiting["reason"], message=message, restarts=restarts)


def _from_termination(ended: Body, restarts: int, waiting: Body) -> PodProblem:
    written = ended.get("message", "")
    report = read_failure(written)
    if report is None:
        reason = ended.get("reason") or waiting.get("reason") or "Error"
        message = last_line(written) or f"the server ended with exit code {ended['exitCode']}"
        return PodProblem(reason=reason, message=shorten(message), restarts=restarts)
    return PodProblem(
        reason=report.reason,
        message=shorten(f"{report.message}. {report.hint}" if report.hint else report.message),
        restarts=restarts,
        is_permanent=report.permanent,
    )


def _unschedulable(conditions: Iterable[Body]) -> PodProblem | None:
    for condition in conditions:
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return PodProblem(reason="Unschedulable", message=condition.get("message", ""))
    return None


def shorten(text: str, limit: int = 1024) -> str:
    """Return a text that a pod or Kubernetes wrote, cut for a status."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
