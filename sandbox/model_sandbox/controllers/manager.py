"""Runs all controllers against one API server: `python -m model_sandbox controllers` and `up` start it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from model_sandbox.cache import Resource, key_of
from model_sandbox.client import Obj
from model_sandbox.controllers import autoscalers, base, budgets, deployment, jobs, namespaces, replicaset
from model_sandbox.controllers.base import Shared, World
from model_sandbox.controllers.endpoints import EndpointSets
from model_sandbox.controllers.garbage import GarbageCollector, Links
from model_sandbox.controllers.labels import Labelled, Selecting
from model_sandbox.controllers.queue import Controller, owner_of

AGENT = "kube-controller-manager/sandbox"
_KINDS = (
    *(base.NAMESPACES, base.NODES, base.PODS, base.SERVICES, base.ENDPOINTS, base.SLICES, base.ACCOUNTS),
    *(base.DEPLOYMENTS, base.REPLICASETS, base.BUDGETS, base.AUTOSCALERS, base.JOBS, base.DEFINITIONS),
)


def controllers(world: World, collector: GarbageCollector) -> Sequence[Controller]:
    """Every controller, wired to what it reconciles and to what else it must hear of."""
    pods, by_label = base.PODS, Labelled(world[base.PODS])
    services = Selecting(world[base.SERVICES], lambda service: service["spec"].get("selector") or None)
    guarding = Selecting(world[base.BUDGETS], budgets.labels).keys
    endpoints = EndpointSets(world, by_label)
    return [
        collector.controller,
        Controller("endpoint-controller", endpoints.reconcile)
        .hears(world[base.SERVICES])
        .hears(world[pods], services.keys)
        .hears(world[base.NODES], lambda node: map(key_of, world[base.SERVICES])),
        world.controller(
            *("deployment-controller", base.DEPLOYMENTS, deployment.reconcile),
            (base.REPLICASETS, owner_of("Deployment")),
        ),
        world.controller(
            "replicaset-controller", base.REPLICASETS, replicaset.reconcile, (pods, owner_of("ReplicaSet"))
        ),
        world.controller("job-controller", base.JOBS, jobs.reconcile, (pods, owner_of("Job"))),
        world.controller(
            *("namespace-controller", base.NAMESPACES, namespaces.reconcile),
            (base.ACCOUNTS, lambda account: [("", key_of(account)[0])]),
        ),
        world.controller(
            *("disruption-controller", base.BUDGETS, partial(budgets.reconcile, by_label)),
            (pods, guarding),
            (base.DEPLOYMENTS, lambda one: guarding(_pod_of(one))),
        ),
        world.controller(
            "horizontal-pod-autoscaler", base.AUTOSCALERS, partial(autoscalers.reconcile, collector.resource)
        ),
    ]


def _pod_of(deployment: Obj) -> Obj:
    """A pod as a Deployment asks for it, as far as labels go."""
    labels = (deployment["spec"]["template"].get("metadata") or {}).get("labels") or {}
    return {"metadata": {**deployment["metadata"], "labels": labels}}


async def run(shared: Shared) -> None:
    """Run the controllers until cancelled; the garbage collector follows kinds that come and go."""
    async with shared.world(AGENT, *_KINDS) as world, asyncio.TaskGroup() as tasks:
        collector = GarbageCollector(world.client)
        for resource in _KINDS:
            collector.add(world[resource])
        # Heard from before the first look on: a kind that comes while we look is not missed.
        changed = asyncio.Event()
        world[base.DEFINITIONS].listen(lambda old, new: changed.set())
        tasks.create_task(world.work(*controllers(world, collector)))
        others: dict[Resource, tuple[Links, asyncio.Task[None]]] = {}
        while True:
            changed.clear()
            found = {one for one in await namespaces.discover(world.client) if one not in (*_KINDS, base.EVENTS)}
            for resource in found - others.keys():
                links = Links(resource)
                collector.add(links)
                others[resource] = links, tasks.create_task(links.run(world.client))
            for resource in others.keys() - found:
                links, following = others.pop(resource)
                following.cancel()
                collector.forget(links)
            await changed.wait()
            await asyncio.sleep(0.05)
