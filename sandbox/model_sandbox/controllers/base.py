"""What every controller is made of: a queue of keys that never runs one key twice at once, and events."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp

from model_sandbox.cache import Cache, Key, Resource, controller_of, key_of
from model_sandbox.client import ApiFailure, Client, Obj

log = logging.getLogger(__name__)

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


def stamp(when: datetime | None = None) -> str:
    """A time as Kubernetes writes it; now if none is given."""
    return (when or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """A time that Kubernetes wrote."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def owner_reference(owner: Obj) -> Obj:
    """The reference of a controller to put into what it creates."""
    metadata = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def set_condition(conditions: list[Obj], new: Obj, now: str, *, extra: Obj | None = None) -> list[Obj]:
    """The conditions with one replaced; its transition time stays while its status does."""
    old = next((one for one in conditions if one["type"] == new["type"]), None)
    moved = old is None or old["status"] != new["status"]
    entry = {**new, "lastTransitionTime": now if moved or old is None else old["lastTransitionTime"], **(extra or {})}
    if old is not None and {**old, **new} == old:
        entry = old
    return [*(one for one in conditions if one["type"] != new["type"]), entry]


@dataclass(slots=True)
class Recorder:
    """Writes Events; a lost one is no error."""

    client: Client
    component: str
    _seen: dict[tuple[str, ...], tuple[str, int]] = field(default_factory=dict)

    async def event(self, about: Obj, reason: str, message: str, *, kind: str = "Normal", path: str = "") -> None:
        """Record an event, or count one that is repeated."""
        metadata = about["metadata"]
        namespace = metadata.get("namespace") or "default"
        known = (metadata["uid"], reason, message, path)
        now = stamp()
        try:
            if known in self._seen:
                name, count = self._seen[known]
                self._seen[known] = (name, count + 1)
                await self.client.merge(EVENTS.path(namespace, name), {"count": count + 1, "lastTimestamp": now})
                return
            name = f"{metadata['name']}.{secrets.token_hex(8)}"
            target = {
                "kind": about["kind"],
                "apiVersion": about["apiVersion"],
                "name": metadata["name"],
                "namespace": metadata.get("namespace", ""),
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            }
            if path:
                target["fieldPath"] = path
            await self.client.send(
                "POST",
                EVENTS.path(namespace),
                {
                    "metadata": {"name": name, "namespace": namespace},
                    "involvedObject": target,
                    "reason": reason,
                    "message": message[:1024],
                    "type": kind,
                    "count": 1,
                    "firstTimestamp": now,
                    "lastTimestamp": now,
                    "source": {"component": self.component},
                    "reportingComponent": self.component,
                },
            )
            self._seen[known] = (name, 1)
            if len(self._seen) > 4096:
                self._seen.pop(next(iter(self._seen)))
        except (ApiFailure, aiohttp.ClientError):
            self._seen.pop(known, None)


Reconcile = Callable[[Key], Awaitable[float | None]]
Keys = Callable[[Obj], Iterable[Key]]


class Controller:
    """Runs `reconcile` for keys that were put in. Its answer is the seconds after which to look again."""

    def __init__(self, name: str, reconcile: Reconcile) -> None:
        self.name = name
        self._reconcile = reconcile
        self._dirty: dict[Key, None] = {}
        self._wake = asyncio.Event()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}

    def put(self, key: Key) -> None:
        """Have a key looked at soon."""
        self._dirty[key] = None
        self._wake.set()

    def later(self, key: Key, seconds: float) -> None:
        """Have a key looked at after a while; an earlier appointment stays."""
        loop = asyncio.get_running_loop()
        known = self._timers.get(key)
        if known is not None and not known.cancelled() and known.when() <= loop.time() + seconds:
            return
        if known is not None:
            known.cancel()
        self._timers[key] = loop.call_later(seconds, self._due, key)

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.put(key)

    async def run(self) -> None:
        """Work for ever."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._dirty:
                    key = next(iter(self._dirty))
                    del self._dirty[key]
                    await self._once(key)
        finally:
            for timer in self._timers.values():
                timer.cancel()

    async def _once(self, key: Key) -> None:
        try:
            again = await self._reconcile(key)
        except ApiFailure as failure:
            if failure.code not in (404, 409):
                log.debug("%s %s: %s", self.name, key, failure)
            self._retry(key)
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            self._retry(key)
        except Exception:
            log.exception("%s %s failed", self.name, key)
            self._retry(key)
        else:
            self._failures.pop(key, None)
            if again is not None:
                self.later(key, again)

    def _retry(self, key: Key) -> None:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        self.later(key, min(0.01 * 2**count, 10.0))


def itself(body: Obj) -> Iterable[Key]:
    """The key of the object that changed."""
    return [key_of(body)]


def owner_of(kind: str) -> Keys:
    """The key of the controller of that kind which an object has."""

    def keys(body: Obj) -> Iterable[Key]:
        owner = controller_of(body)
        return [(key_of(body)[0], owner["name"])] if owner is not None and owner["kind"] == kind else []

    return keys


def enqueue(controller: Controller, cache: Cache, keys: Keys = itself) -> None:
    """Have a controller look at what an object's change is about."""

    def hear(old: Obj | None, new: Obj | None) -> None:
        for body in (old, new):
            for key in keys(body) if body is not None else ():
                controller.put(key)

    cache.listeners.append(hear)
