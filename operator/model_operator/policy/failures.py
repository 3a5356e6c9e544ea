"""Why a pod does not serve, or is not made: Kubernetes' own words and the server's termination message.

The server writes `{"reason", "message", "hint", "permanent"}` to its termination message
(docs/wire.md); that sentence is worth more than `CrashLoopBackOff`, so it wins.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from model_operator.policy.observed import PodTrouble

Body = Mapping[str, Any]

#: Waiting reasons that no further waiting mends: the image's name or content has to change.
IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
#: Waiting reasons of a container that is merely on its way.
_STARTING = frozenset({"ContainerCreating", "PodInitializing", ""})
#: Restarts after which a crashing revision counts as broken.
CRASH_LIMIT = 3


def trouble_of_pod(status: Body) -> PodTrouble | None:
    """Return why a pod does not serve, or None when nothing is known to be wrong.

    Args:
        status: `status` of a v1 Pod.
    """
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    for container in containers:
        trouble = _trouble_of_container(container)
        if trouble is not None:
            return trouble
    return _unschedulable(status.get("conditions", ()))


def trouble_of_deployment(status: Body) -> PodTrouble | None:
    """Return why the cluster makes no pods: a quota, an admission policy, a missing ServiceAccount.

    Args:
        status: `status` of an apps/v1 Deployment.
    """
    for condition in status.get("conditions") or ():
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return PodTrouble(
                reason=condition.get("reason") or "FailedCreate", message=_shorten(condition.get("message", ""))
            )
    return None


def trouble_of_autoscaler(status: Body) -> PodTrouble | None:
    """Return why a number of pods does not follow the load, as for want of metrics or of a request for CPU.

    Args:
        status: `status` of an autoscaling/v2 HorizontalPodAutoscaler.
    """
    for condition in status.get("conditions") or ():
        is_off = condition.get("type") in ("AbleToScale", "ScalingActive") and condition.get("status") == "False"
        if is_off and condition.get("reason") != "ScalingDisabled":
            message = condition.get("message", "")
            hint = "; set spec.server.resources.requests.cpu" if "missing request for cpu" in message else ""
            return PodTrouble(reason=condition.get("reason") or "Unknown", message=_shorten(message) + hint)
    return None


def is_fatal(trouble: PodTrouble) -> bool:
    """Whether the revision has failed, so that its rollout need not wait for the deadline."""
    return trouble.is_permanent or trouble.reason in IMAGE_REASONS or trouble.restarts >= CRASH_LIMIT


def worst(troubles: Iterable[PodTrouble]) -> PodTrouble | None:
    """Return the trouble that says most: fatal before others, then most restarts."""
    return max(troubles, key=lambda trouble: (is_fatal(trouble), trouble.restarts), default=None)


def _trouble_of_container(container: Body) -> PodTrouble | None:
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
    return PodTrouble(reason=waiting["reason"], message=waiting.get("message", ""), restarts=restarts)


def _from_termination(ended: Body, restarts: int, waiting: Body) -> PodTrouble:
    written = ended.get("message", "")
    try:
        told = json.loads(written)
        reason, message = str(told["reason"]), str(told["message"])
    except (ValueError, KeyError, TypeError):
        reason = ended.get("reason") or waiting.get("reason") or "Error"
        message = _last_words(written) or f"the server ended with exit code {ended['exitCode']}"
        return PodTrouble(reason=reason, message=_shorten(message), restarts=restarts)
    hint = str(told.get("hint") or "")
    return PodTrouble(
        reason=reason,
        message=_shorten(f"{message}. {hint}" if hint else message),
        restarts=restarts,
        is_permanent=bool(told.get("permanent")),
    )


def _last_words(logs: str) -> str:
    """Return what the last line of a log says; the kubelet gives the log's end when nothing else was told."""
    last = logs.strip().rpartition("\n")[2]
    try:
        return str(json.loads(last)["message"])
    except (ValueError, KeyError, TypeError):
        return last


def _unschedulable(conditions: Iterable[Body]) -> PodTrouble | None:
    for condition in conditions:
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return PodTrouble(reason="Unschedulable", message=condition.get("message", ""))
    return None


def _shorten(text: str, limit: int = 1024) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
