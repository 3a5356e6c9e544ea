"""The Deployment controller: carries out what `rollout.py` plans."""

from __future__ import annotations

from datetime import UTC, datetime

from model_sandbox.cache import key_of
from model_sandbox.client import ApiFailure, Obj
from model_sandbox.controllers import rollout
from model_sandbox.controllers.base import DEPLOYMENTS, REPLICASETS, World, status_of


async def reconcile(world: World, deployment: Obj) -> float | None:
    """One step of a rollout; the next comes with the next change of a ReplicaSet."""
    plan = rollout.plan(deployment, world[REPLICASETS].owned(deployment), datetime.now(UTC))
    if plan.create is not None:
        await _create(world, deployment, plan.create)
    for one, patch in plan.patches:
        await world.merge(REPLICASETS, key_of(one), patch)
        await _tell(world, deployment, one, patch.get("spec", {}).get("replicas"))
    for one in plan.remove:
        await world.delete(REPLICASETS, one)
    if plan.deployment != deployment:
        await world.replace(DEPLOYMENTS, plan.deployment, "status")
    return plan.again


async def _create(world: World, deployment: Obj, body: Obj) -> None:
    try:
        await world.create(REPLICASETS, body)
    except ApiFailure as failure:
        if failure.code == 409 and world[REPLICASETS].get(*key_of(body)) is not None:  # somebody else's
            status = status_of(deployment)
            status = {**status, "collisionCount": status.get("collisionCount", 0) + 1}
            await world.report(DEPLOYMENTS, deployment, status)
        raise
    await _tell(world, deployment, {**body, "spec": {"replicas": 0}}, body["spec"]["replicas"])


async def _tell(world: World, deployment: Obj, replica_set: Obj, size: int | None) -> None:
    before, name = rollout.size_of(replica_set), replica_set["metadata"]["name"]
    if size is not None and size != before:
        told = f"Scaled {'up' if size > before else 'down'} replica set {name} from {before} to {size}"
        await world.event(deployment, "ScalingReplicaSet", told)
