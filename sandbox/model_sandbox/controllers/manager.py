"""Runs all controllers against one API server: `python -m model_sandbox controllers` and `up` start it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from model_sandbox.cache import Cache, Key, Resource, key_of
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
        client, by_kind = self._client, {resource.kind: self.caches[resource.base] for resource in _SHARED}
        pods, sets, deployments = by_kind["Pod"], by_kind["ReplicaSet"], by_kind["Deployment"]
        services, nodes, jobs = by_kind["Service"], by_kind["Node"], by_kind["Job"]
        spaces, accounts = by_kind["Namespace"], by_kind["ServiceAccount"]
        budgets, scales = by_kind["PodDisruptionBudget"], by_kind["HorizontalPodAutoscaler"]
        endpoints = EndpointSets(client, services, pods, nodes, by_kind["EndpointSlice"], by_kind["Endpoints"])

        def recorder(name: str) -> Recorder:
            return Recorder(client, name)

        def budgets_of(body: Obj) -> Iterable[Key]:
            return map(key_of, budgets.within(key_of(body)[0]))

        rolls = Deployments(client, deployments, sets, recorder("deployment-controller"))
        self._start("deployment", rolls.reconcile, deployments, (sets, base.owner_of("Deployment")))
        replicas = ReplicaSets(client, sets, pods, recorder("replicaset-controller"))
        self._start("replicaset", replicas.reconcile, sets, (pods, base.owner_of("ReplicaSet")))
        runs = Jobs(client, jobs, pods, recorder("job-controller"))
        self._start("job", runs.reconcile, jobs, (pods, base.owner_of("Job")))
        everyone = (nodes, lambda node: map(key_of, services))
        self._start("endpoints", endpoints.reconcile, services, (pods, endpoints.services_of), everyone)
        namespaces = Namespaces(client, spaces, accounts, discover)
        self._start("namespace", namespaces.reconcile, spaces, (accounts, lambda body: [("", key_of(body)[0])]))
        disruptions = Budgets(budgets, pods, sets, deployments)
        self._start("budget", disruptions.reconcile, budgets, (pods, budgets_of), (deployments, budgets_of))
        sizes = Autoscalers(client, scales, self.collector, recorder("horizontal-pod-autoscaler"))
        self._start("autoscaler", sizes.reconcile, scales)
        self._tasks.create_task(self._when_ready(self.collector.controller))

    def _start(self, name: str, reconcile: base.Reconcile, own: Cache, *others: tuple[Cache, base.Keys]) -> None:
        """Run a controller for its own kind and for what changes of other kinds are about."""
        controller = Controller(name, reconcile)
        for cache, keys in ((own, base.itself), *others):
            enqueue(controller, cache, keys)
        self._tasks.create_task(self._when_ready(controller))

    async def _when_ready(self, controller: Controller) -> None:
        for resource in _SHARED:
            await self.caches[resource.base].ready.wait()
        await controller.run()


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
        enqueue(controller, pods)
        for cache in (pods, nodes):
            tasks.create_task(cache.run())
        for cache in (pods, nodes):
            await cache.ready.wait()
        tasks.create_task(controller.run())
