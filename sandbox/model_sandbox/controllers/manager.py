"""Runs all controllers against one API server: `python -m model_sandbox controllers` and `up` start it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from model_sandbox.cache import Cache, Key, Resource, controller_of, key_of
from model_sandbox.client import Client, Connection, Obj
from model_sandbox.controllers import base
from model_sandbox.controllers.base import Controller, Recorder, enqueue
from model_sandbox.controllers.deployment import Deployments
from model_sandbox.controllers.endpoints import EndpointSets
from model_sandbox.controllers.garbage import GarbageCollector
from model_sandbox.controllers.jobs import Jobs
from model_sandbox.controllers.replicaset import ReplicaSets
from model_sandbox.controllers.small import Autoscalers, Budgets, Namespaces, Scheduler

AGENT = "kube-controller-manager/sandbox"
_SHARED = (
    base.NAMESPACES,
    base.NODES,
    base.PODS,
    base.SERVICES,
    base.ENDPOINTS,
    base.SLICES,
    base.ACCOUNTS,
    base.DEPLOYMENTS,
    base.REPLICASETS,
    base.BUDGETS,
    base.AUTOSCALERS,
    base.JOBS,
    base.DEFINITIONS,
)
# Kinds that own nothing and are owned by nothing.
_NOT_COLLECTED = ("events",)


class Manager:
    """The caches, the controllers and their wiring."""

    def __init__(self, client: Client, tasks: asyncio.TaskGroup) -> None:
        self._client = client
        self._tasks = tasks
        self._running: dict[str, asyncio.Task[None]] = {}
        self.caches: dict[str, Cache] = {}
        self.collector = GarbageCollector(client)

    async def run(self) -> None:
        """Start everything, then follow the kinds that come and go."""
        for resource in _SHARED:
            self._follow(resource)
        self._wire()
        # Heard from before the first look on: a kind that comes while we look is not missed.
        changed = asyncio.Event()
        self.caches[base.DEFINITIONS.base].listeners.append(lambda old, new: changed.set())
        while True:
            changed.clear()
            await self._discover()
            await changed.wait()
            await asyncio.sleep(0.05)

    def _follow(self, resource: Resource) -> Cache:
        cache = self.caches[resource.base] = Cache(self._client, resource)
        if resource.plural not in _NOT_COLLECTED:
            self.collector.add(cache)
        self._running[resource.base] = self._tasks.create_task(cache.run())
        return cache

    async def _discover(self) -> None:
        found = {resource.base: resource for resource in await discover(self._client)}
        for path, resource in found.items():
            if path not in self.caches:
                self._follow(resource)
        for path in [path for path in self.caches if path not in found]:
            self._running.pop(path).cancel()
            self.collector.forget(self.caches.pop(path))

    def _wire(self) -> None:
        by_kind = {resource.kind: self.caches[resource.base] for resource in _SHARED}
        pods, sets, deployments = by_kind["Pod"], by_kind["ReplicaSet"], by_kind["Deployment"]
        client = self._client
        controllers = []

        def start(name: str, reconcile: base.Reconcile) -> Controller:
            controller = Controller(name, reconcile)
            controllers.append(controller)
            return controller

        rolls = start(
            "deployment",
            Deployments(client, deployments, sets, Recorder(client, "deployment-controller")).reconcile,
        )
        enqueue(rolls, deployments, key_of)
        enqueue(rolls, sets, _owner_key("Deployment"))
        replicas = start(
            "replicaset", ReplicaSets(client, sets, pods, Recorder(client, "replicaset-controller")).reconcile
        )
        enqueue(replicas, sets, key_of)
        enqueue(replicas, pods, _owner_key("ReplicaSet"))
        jobs = start("job", Jobs(client, by_kind["Job"], pods, Recorder(client, "job-controller")).reconcile)
        enqueue(jobs, by_kind["Job"], key_of)
        enqueue(jobs, pods, _owner_key("Job"))
        self._wire_endpoints(start, by_kind)
        spaces = start(
            "namespace", Namespaces(client, by_kind["Namespace"], by_kind["ServiceAccount"], discover).reconcile
        )
        enqueue(spaces, by_kind["Namespace"], key_of)
        enqueue(spaces, by_kind["ServiceAccount"], lambda body: ("", body["metadata"]["namespace"]))
        budgets = start("budget", Budgets(client, by_kind["PodDisruptionBudget"], pods, sets, deployments).reconcile)
        enqueue(budgets, by_kind["PodDisruptionBudget"], key_of)

        def budgets_of(body: Obj) -> Key | None:
            for budget in by_kind["PodDisruptionBudget"].within(body["metadata"].get("namespace", "")):
                budgets.put(key_of(budget))
            return None

        enqueue(budgets, pods, budgets_of)
        enqueue(budgets, deployments, budgets_of)
        scales = start(
            "autoscaler",
            Autoscalers(
                client,
                by_kind["HorizontalPodAutoscaler"],
                self.collector,
                Recorder(client, "horizontal-pod-autoscaler"),
            ).reconcile,
        )
        enqueue(scales, by_kind["HorizontalPodAutoscaler"], key_of)
        for controller in [*controllers, self.collector.controller]:
            self._tasks.create_task(self._when_ready(controller))

    def _wire_endpoints(self, start: Callable[[str, base.Reconcile], Controller], by_kind: dict[str, Cache]) -> None:
        services, pods = by_kind["Service"], by_kind["Pod"]
        sets = EndpointSets(
            self._client, services, pods, by_kind["Node"], by_kind["EndpointSlice"], by_kind["Endpoints"]
        )
        controller = start("endpoints", sets.reconcile)
        enqueue(controller, services, key_of)

        def hear(old: Obj | None, new: Obj | None) -> None:
            for body in (old, new):
                for key in sets.services_of(body) if body else ():
                    controller.put(key)

        pods.listeners.append(hear)

        def node_came_or_went(old: Obj | None, new: Obj | None) -> None:
            if old is None or new is None:
                for service in services:
                    controller.put(key_of(service))

        by_kind["Node"].listeners.append(node_came_or_went)

    async def _when_ready(self, controller: Controller) -> None:
        for resource in _SHARED:
            await self.caches[resource.base].ready.wait()
        await controller.run()


def _owner_key(kind: str) -> Callable[[Obj], Key | None]:
    def key(body: Obj) -> Key | None:
        owner = controller_of(body)
        if owner is None or owner["kind"] != kind:
            return None
        return body["metadata"].get("namespace", ""), owner["name"]

    return key


async def discover(client: Client) -> Iterable[Resource]:
    """Every kind that can be listed, watched and deleted, one version of each."""
    paths = ["/api/v1"]
    for group in (await client.send("GET", "/apis")).get("groups") or []:
        paths.append(f"/apis/{group['preferredVersion']['groupVersion']}")
    found = []
    for path in paths:
        answer = await client.get(path)
        for entry in (answer or {}).get("resources") or []:
            needed = {"list", "watch", "delete"} <= set(entry.get("verbs") or ())
            if needed and "/" not in entry["name"] and not path.startswith("/apis/events.k8s.io"):
                version = path.removeprefix("/apis/").removeprefix("/api/")
                found.append(Resource(version, entry["name"], entry["kind"], entry["namespaced"]))
    return found


async def run(connection: Connection) -> None:
    """Run the controllers until cancelled."""
    async with Client(connection, AGENT) as client, asyncio.TaskGroup() as tasks:
        tasks.create_task(Manager(client, tasks).run())


async def schedule(connection: Connection) -> None:
    """Run the scheduler until cancelled."""
    async with Client(connection, "kube-scheduler/sandbox") as client, asyncio.TaskGroup() as tasks:
        pods, nodes = Cache(client, base.PODS), Cache(client, base.NODES)
        scheduler = Scheduler(client, pods, nodes, Recorder(client, "default-scheduler"))
        controller = Controller("scheduler", scheduler.reconcile)
        enqueue(controller, pods, key_of)
        for cache in (pods, nodes):
            tasks.create_task(cache.run())
        for cache in (pods, nodes):
            await cache.ready.wait()
        tasks.create_task(controller.run())
