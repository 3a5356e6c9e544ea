"""The ReplicaSet controller: as many pods as asked for, and their numbers in the status."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from model_sandbox.client import ApiFailure, Obj
from model_sandbox.controllers import pods as about
from model_sandbox.controllers.base import FAILURE, PODS, REPLICASETS, World, status_of, with_condition

_BURST = 500
_ALWAYS = ("replicas", "observedGeneration", "terminatingReplicas")


def status(replica_set: Obj, pods: Sequence[Obj], now: datetime) -> tuple[Obj, float | None]:
    """The status, and the seconds after which it changes by time alone."""
    spec = replica_set["spec"]
    active = [pod for pod in pods if about.is_active(pod)]
    waits = [about.available_in(pod, spec.get("minReadySeconds", 0), now) for pod in active]
    labels = (spec.get("template", {}).get("metadata") or {}).get("labels") or {}
    counts: Obj = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(labels.items() <= (pod["metadata"].get("labels") or {}).items() for pod in active),
        "readyReplicas": sum(wait is not None for wait in waits),
        "availableReplicas": sum(wait == 0 for wait in waits),
        "terminatingReplicas": sum(about.is_terminating(pod) and not about.is_finished(pod) for pod in pods),
        "observedGeneration": replica_set["metadata"]["generation"],
    }
    kept = {name: value for name, value in counts.items() if value or name in _ALWAYS}
    return kept, min((wait for wait in waits if wait), default=None)


async def reconcile(world: World, replica_set: Obj) -> float | None:
    """Create or delete pods, then report."""
    active = [pod for pod in world[PODS].owned(replica_set) if about.is_active(pod)]
    missing, refusal, now = replica_set["spec"].get("replicas", 1) - len(active), None, datetime.now(UTC)
    if not about.is_terminating(replica_set):
        try:
            for _ in range(min(missing, _BURST)):
                await about.create(world, replica_set)
        except ApiFailure as failure:
            refusal = failure
        for pod in sorted(active, key=about.deletion_rank)[: max(0, -missing)]:
            await about.delete(world, replica_set, pod)
    counts, again = status(replica_set, world[PODS].owned(replica_set), now)
    if refusal is not None:
        held, told = status_of(replica_set).get("conditions"), str(refusal.body.get("message", refusal))
        counts["conditions"] = with_condition(held, FAILURE, True, "FailedCreate", told, now=now)
    await world.report(REPLICASETS, replica_set, counts)
    if refusal is not None:
        raise refusal
    return again
