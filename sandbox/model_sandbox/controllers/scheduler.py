"""The scheduler: each new pod goes to the ready node with the fewest pods that its nodeSelector allows."""

from __future__ import annotations

from datetime import UTC, datetime

from model_sandbox.cache import key_of
from model_sandbox.client import Obj
from model_sandbox.controllers import pods as about
from model_sandbox.controllers.base import NODES, PODS, Shared, World, condition, status_of, with_condition


async def run(shared: Shared) -> None:
    """Run the scheduler until cancelled."""
    async with shared.world("kube-scheduler/sandbox", PODS, NODES) as world:
        await world.work(world.controller("default-scheduler", PODS, reconcile))


async def reconcile(world: World, pod: Obj) -> float | None:
    """One pod."""
    if pod["spec"].get("nodeName") or about.is_terminating(pod):
        return None
    load = {node["metadata"]["name"]: 0 for node in world[NODES] if _fits(node, pod)}
    if not load:
        return await _unschedulable(world, pod)
    for other in world[PODS] if len(load) > 1 else ():
        if other["spec"].get("nodeName") in load and about.is_active(other):
            load[other["spec"]["nodeName"]] += 1
    chosen, (namespace, name) = min(load, key=lambda node: (load[node], node)), key_of(pod)
    binding = {"metadata": {"name": name}, "target": {"kind": "Node", "name": chosen}}
    await world.client.send("POST", PODS.path(namespace, name, "binding"), binding)
    # The answer is no pod: what it has become is noted here, until the watch tells.
    world[PODS].objects[namespace, name] = {**pod, "spec": {**pod["spec"], "nodeName": chosen}}
    await world.event(pod, "Scheduled", f"Successfully assigned {namespace}/{name} to {chosen}")
    return None


def _fits(node: Obj, pod: Obj) -> bool:
    labels = node["metadata"].get("labels") or {}
    wanted = pod["spec"].get("nodeSelector") or {}
    return about.is_ready(node) and not node["spec"].get("unschedulable") and wanted.items() <= labels.items()


async def _unschedulable(world: World, pod: Obj) -> float:
    total = len(world[NODES].objects)
    told = f"0/{total} nodes are available: none is ready, schedulable and matches the pod's nodeSelector."
    if (condition(pod, "PodScheduled") or {}).get("message") != told:
        held, now = status_of(pod).get("conditions"), datetime.now(UTC)
        conditions = with_condition(held, "PodScheduled", False, "Unschedulable", told, now=now)
        await world.merge(PODS, key_of(pod), {"status": {"conditions": conditions}}, "status")
        await world.event(pod, "FailedScheduling", told, warning=True)
    return 1.0
