"""What controllers, node, proxy and gateway are made of: what they see of an API server, and how they act on it.

`__main__.py` and the tests run parts by `run`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp

from model_sandbox.cache import Cache, Key, Resource, key_of
from model_sandbox.client import ApiFailure, Client, Connection, Obj
from model_sandbox.controllers.queue import Controller, Keys

NAMESPACES = Resource("v1", "namespaces", "Namespace", namespaced=False)
NODES = Resource("v1", "nodes", "Node", namespaced=False)
PODS = Resource("v1", "pods", "Pod")
SERVICES = Resource("v1", "services", "Service")
ENDPOINTS = Resource("v1", "endpoints", "Endpoints")
SLICES = Resource("discovery.k8s.io/v1", "endpointslices", "EndpointSlice")
EVENTS = Resource("v1", "events", "Event")
ACCOUNTS = Resource("v1", "serviceaccounts", "ServiceAccount")
DEPLOYMENTS = Resource("apps/v1", "deployments", "Deployment")
REPLICASETS = Resource("apps/v1", "replicasets", "ReplicaSet")
JOBS = Resource("batch/v1", "jobs", "Job")
BUDGETS = Resource("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget")
AUTOSCALERS = Resource("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
DEFINITIONS = Resource(
    "apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)


FAILURE = "ReplicaFailure"  # the condition of a ReplicaSet, and of its Deployment, whose pods are refused


def stamp(when: datetime | None = None) -> str:
    """A time as Kubernetes writes it; now if none is given."""
    return (when or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """A time that Kubernetes wrote."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def owner_reference(owner: Obj) -> Obj:
    """The reference of a controller to put into what it creates."""
    reference = {name: owner[name] for name in ("apiVersion", "kind")}
    reference |= {name: owner["metadata"][name] for name in ("name", "uid")}
    return {**reference, "controller": True, "blockOwnerDeletion": True}


def status_of(body: Obj) -> Obj:
    """The status of an object; empty as long as there is none."""
    return body.get("status") or {}


def condition(body: Obj, name: str) -> Obj | None:
    """A condition of an object's status."""
    return next((one for one in status_of(body).get("conditions") or () if one["type"] == name), None)


def with_condition(
    held: Sequence[Obj] | None,
    kind: str,
    state: bool | str,
    reason: str | None = None,
    message: str = "",
    *,
    now: datetime,
    updated: str = "",
    **more: Any,
) -> list[Obj]:
    """Conditions with one of them replaced, unless it says the same already.

    Its transition time stays while its status does; `updated` names a further time that is set at every change.
    """
    entry: Obj = {"type": kind, "status": str(state), **more}
    if reason is not None:
        entry |= {"reason": reason, "message": message}
    conditions = list(held or ())
    old = next((one for one in conditions if one["type"] == kind), {})
    if entry.items() <= old.items() and (reason is not None or "reason" not in old):
        return conditions
    same = old.get("status") == entry["status"]
    entry["lastTransitionTime"] = old["lastTransitionTime"] if same else stamp(now)
    if updated:
        entry[updated] = stamp(now)
    return [*(one for one in conditions if one["type"] != kind), entry]


class World:
    """What a part of the sandbox sees, and by which it acts; what it writes it sees at once.

    `name` is whom its events are from; a lost event is no error.
    """

    def __init__(self, client: Client, caches: Mapping[Resource, Cache], name: str) -> None:
        self.client = client
        self._caches = caches
        self._name = name
        self._told: dict[tuple[str, ...], tuple[str, int]] = {}

    def __getitem__(self, resource: Resource) -> Cache:
        return self._caches[resource]

    def controller(
        self,
        name: str,
        own: Resource,
        reconcile: Callable[[World, Obj], Awaitable[float | None]],
        *others: tuple[Resource, Keys],
    ) -> Controller:
        """A controller of one kind, which also looks when others change."""
        world = World(self.client, self._caches, name)

        async def look(key: Key) -> float | None:
            body = self[own].get(*key)
            return None if body is None else await reconcile(world, body)

        controller = Controller(name, look).hears(self[own])
        for resource, keys in others:
            controller.hears(self[resource], keys)
        return controller

    async def work(self, *controllers: Controller) -> None:
        """Reconcile as soon as everything is known; until cancelled."""
        for cache in self._caches.values():
            await cache.ready.wait()
        async with asyncio.TaskGroup() as tasks:
            for controller in controllers:
                tasks.create_task(controller.run())

    # --- writes

    async def create(self, resource: Resource, body: Obj) -> Obj:
        """Create an object."""
        path = resource.path(body["metadata"].get("namespace", ""))
        return self._took(resource, await self.client.send("POST", path, body))

    async def replace(self, resource: Resource, body: Obj, part: str = "") -> Obj:
        """Replace an object, or a part such as `status`."""
        return self._took(resource, await self.client.send("PUT", resource.path(*key_of(body), part), body))

    async def merge(self, resource: Resource, key: Key, patch: Obj, part: str = "") -> Obj:
        """Change an object by a merge patch."""
        return self._took(resource, await self.client.merge(resource.path(*key, part), patch))

    async def report(self, resource: Resource, body: Obj, status: Obj) -> None:
        """Write a status that differs from the one that is there."""
        if status != status_of(body):
            await self.replace(resource, {**body, "status": status}, "status")

    async def delete(self, resource: Resource, body: Obj, **options: Any) -> bool:
        """Delete this very object; False when it was gone."""
        options["preconditions"] = {"uid": body["metadata"]["uid"]}
        try:
            answer = await self.client.send("DELETE", resource.path(*key_of(body)), options)
        except ApiFailure as failure:
            if failure.code not in (404, 409):
                raise
            return False
        if answer.get("kind") == resource.kind:
            self._took(resource, answer)
        return True

    def _took(self, resource: Resource, body: Obj) -> Obj:
        self[resource].put(body)
        return body

    async def event(self, about: Obj, reason: str, message: str, *, warning: bool = False, path: str = "") -> None:
        """Record an event, or count one that is repeated; `path` is the field that it is about."""
        metadata = about["metadata"]
        namespace = metadata.get("namespace") or "default"
        known, now = (metadata["uid"], reason, message, path), stamp()
        name, count = self._told.pop(known, (f"{metadata['name']}.{secrets.token_hex(8)}", 0))
        target = {key: metadata.get(key, "") for key in ("name", "namespace", "uid", "resourceVersion")}
        target |= {"kind": about["kind"], "apiVersion": about["apiVersion"], **({"fieldPath": path} if path else {})}
        body: Obj = {
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": target,
            "reason": reason,
            "message": message[:1024],
            "type": "Warning" if warning else "Normal",
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": self._name},
            "reportingComponent": self._name,
        }
        try:
            if count:
                await self.client.merge(EVENTS.path(namespace, name), {"count": count + 1, "lastTimestamp": now})
            else:
                await self.client.send("POST", EVENTS.path(namespace), body)
        except (ApiFailure, aiohttp.ClientError):
            return
        self._told[known] = (name, count + 1)
        if len(self._told) > 4096:
            self._told.pop(next(iter(self._told)))


class Shared:
    """What the parts in one process share: a copy of each kind of an API server that any of them looks at."""

    def __init__(self, client: Client, tasks: asyncio.TaskGroup) -> None:
        self.connection = client.connection
        self._client = client
        self._tasks = tasks
        self._caches: dict[Resource, Cache] = {}

    def __getitem__(self, resource: Resource) -> Cache:
        if resource not in self._caches:
            cache = self._caches[resource] = Cache(resource)
            self._tasks.create_task(cache.run(self._client))
        return self._caches[resource]

    @asynccontextmanager
    async def world(self, agent: str, *resources: Resource) -> AsyncIterator[World]:
        """What a part sees that calls itself by this name."""
        async with Client(self.connection, agent) as client:
            yield World(client, {resource: self[resource] for resource in resources}, agent.partition("/")[0])


Part = Callable[[Shared], Coroutine[Any, Any, None]]


async def run(connection: Connection, *parts: Part) -> None:
    """Run parts of the sandbox against an API server until cancelled, or until one of them fails."""
    async with Client(connection, "model-sandbox/1") as client, asyncio.TaskGroup() as tasks:
        shared = Shared(client, tasks)
        for part in parts:
            tasks.create_task(part(shared))
