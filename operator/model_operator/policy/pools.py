"""The status of a ModelPool, from its Deployment and from what its pods say. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from model_operator.api.json import Body, JsonObject
from model_operator.api.names import POOL
from model_operator.api.pool import ModelPool, PoolSample
from model_operator.observation.values import PodProblem
from model_operator.policy.batches import BatchCondition, merge_conditions
from model_operator.policy.status.events import EventDraft

VALID, READY, LOADED = "SpecValid", "Ready", "ModelsLoaded"
#: Failures that a status lists; all are counted.
MOST_SHOWN = 20


class PoolEvent(EventDraft):
    """An Event about a ModelPool."""


def pool_status(
    pool: ModelPool,
    deployment: Body | None,
    samples: Sequence[PoolSample],
    now: datetime,
    *,
    problem: PodProblem | None = None,
    refused: str = "",
) -> JsonObject:
    """Return the status of a pool.

    Args:
        problem: the most severe reason for which a pod does not serve.
        refused: which object that the pool serves without cannot be written, and why.
    """
    found = (deployment or {}).get("status") or {}
    wanted = pool.spec.replicas
    # Of the template that was applied last: pods of an older one serve, and are replaced.
    is_current = found.get("observedGeneration") == (deployment or {}).get("metadata", {}).get("generation")
    ready = int(found.get("readyReplicas") or 0)
    updated = int(found.get("updatedReplicas") or 0)
    is_ready = is_current and ready >= wanted and updated >= wanted
    failures = dict(one for sample in samples for one in sample.failures)
    failed = max((sample.failed for sample in samples), default=0)
    loaded = max((sample.loaded for sample in samples), default=0)
    phase = "Pending" if not (is_ready or ready) else "Degraded" if failed or not is_ready else "Ready"
    message = "; ".join(filter(None, [_message(pool, ready, loaded, failed, failures, problem), refused]))
    conditions = [
        BatchCondition(
            type=VALID, is_true=not refused, reason="ApplyFailed" if refused else "SpecValid", message=refused
        ),
        BatchCondition(
            type=READY,
            is_true=is_ready,
            reason="PodsReady" if is_ready else "PodsNotReady",
            message=_pods_ready(ready, wanted, None if is_ready else problem),
        ),
        BatchCondition(
            type=LOADED,
            is_true=not failed,
            reason="ModelsFailed" if failed else "NoneFailed",
            message=_told(failed, failures) if failed else "",
        ),
    ]
    return {
        "observedGeneration": pool.generation,
        "phase": phase,
        "message": message,
        "models": len(pool.spec.models),
        "loaded": loaded,
        "failed": failed,
        "replicas": int(found.get("replicas") or 0),
        "ready": f"{ready}/{wanted}",
        "selector": f"{POOL}={pool.name}",
        "failures": [{"name": name, "reason": reason} for name, reason in sorted(failures.items())[:MOST_SHOWN]],
        "conditions": _conditions(pool.body, conditions, now),
    }


def invalid_status(body: Body, reason: str, message: str, now: datetime) -> JsonObject:
    """Return the status of a pool whose spec cannot be carried out; pods that it has go on."""
    kept = dict(body.get("status") or {})
    condition = BatchCondition(type=VALID, is_true=False, reason=reason, message=message)
    phase = kept.get("phase") or "Pending"
    return {**kept, "phase": phase, "message": message, "conditions": _conditions(body, [condition], now)}


def events(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[PoolEvent]:
    """Return the Events for a change of phase, and for models that failed since."""
    found = []
    if new["phase"] != old.get("phase"):
        found.append(PoolEvent(f"Pool{new['phase']}", new["message"], is_warning=new["phase"] == "Degraded"))
    elif new["failed"] > int(old.get("failed") or 0):
        found.append(PoolEvent("ModelsFailed", new["message"], is_warning=True))
    return found


def _conditions(body: Mapping[str, Any], found: Sequence[BatchCondition], now: datetime) -> list[dict[str, Any]]:
    held = (body.get("status") or {}).get("conditions") or ()
    return merge_conditions(held, found, body["metadata"]["generation"], now)


def _message(
    pool: ModelPool,
    ready: int,
    loaded: int,
    failed: int,
    failures: Mapping[str, str],
    problem: PodProblem | None,
) -> str:
    count, wanted = len(pool.spec.models), pool.spec.replicas
    if ready < wanted and problem is not None:
        return _pods_ready(ready, wanted, problem)
    if ready < wanted:
        return f"{_pods_ready(ready, wanted, None)}; kubectl describe pod -l {POOL}={pool.name} says why"
    told = f"{count} models, {loaded} in memory"
    return f"{told}; {_told(failed, failures)}" if failed else told


def _pods_ready(ready: int, wanted: int, problem: PodProblem | None) -> str:
    told = f"{ready} of {wanted} pods are ready"
    return told if problem is None else f"{told}: {problem.reason}: {problem.message}"


def _told(failed: int, failures: Mapping[str, str]) -> str:
    shown = ", ".join(f"{name} ({reason})" for name, reason in sorted(failures.items())[:3])
    return f"{failed} failed: {shown}" + (", ..." if failed > 3 else "")
