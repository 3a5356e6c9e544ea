"""The garbage collector: dependents go when their owners are gone, in the order a deletion asked for."""

from __future__ import annotations

from collections.abc import Iterable, Set

from model_sandbox.cache import Cache, Key, Resource, key_of
from model_sandbox.client import ApiFailure, Client, Obj
from model_sandbox.controllers.queue import Controller

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


class Links(Cache):
    """A cache of what links objects with each other: all that is kept of kinds that have no other controller here."""

    def put(self, body: Obj) -> None:
        """Take a newer version of an object."""
        kept = {name: value for name, value in body["metadata"].items() if name not in ("annotations", "managedFields")}
        Cache.put(self, {"metadata": kept})


class GarbageCollector:
    """Follows ownerReferences over every kind. Keys of its queue are (uid, "")."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._objects: dict[str, tuple[Resource, Obj]] = {}
        self._dependents: dict[str, dict[str, None]] = {}
        self._caches: dict[tuple[str, str], Cache] = {}
        self.controller = Controller("garbage collector", self._reconcile)

    def add(self, cache: Cache) -> None:
        """Look after one more kind."""
        self._caches[cache.resource.api_version, cache.resource.kind] = cache
        cache.listen(lambda old, new: self._hear(cache.resource, old, new))

    def forget(self, cache: Cache) -> None:
        """A kind is no longer served."""
        self._caches.pop((cache.resource.api_version, cache.resource.kind), None)
        for body in cache:
            self._hear(cache.resource, body, None)

    def resource(self, api_version: str, kind: str) -> Resource | None:
        """The resource of a kind that is looked after."""
        cache = self._caches.get((api_version, kind))
        return cache.resource if cache is not None else None

    def _hear(self, resource: Resource, old: Obj | None, new: Obj | None) -> None:
        """Keep the graph, and have looked at what a change of links is about."""
        if new is not None and old is not None and _links(old) == _links(new):
            self._objects[new["metadata"]["uid"]] = (resource, new)
            return
        touched: set[str] = set()
        if old is not None:
            uid = old["metadata"]["uid"]
            self._objects.pop(uid, None)
            for owner in _owners(old):
                self._dependents.get(owner["uid"], {}).pop(uid, None)
                touched.add(owner["uid"])
            touched.update(self._dependents.get(uid, ()))
        if new is not None:
            uid = new["metadata"]["uid"]
            self._objects[uid] = (resource, new)
            for owner in _owners(new):
                self._dependents.setdefault(owner["uid"], {})[uid] = None
            touched.add(uid)
        for uid in touched:
            if not self._dependents.get(uid):
                self._dependents.pop(uid, None)
            self.controller.put((uid, ""))

    async def _reconcile(self, key: Key) -> float | None:
        if key[0] not in self._objects:
            return None
        if not all(cache.ready.is_set() for cache in self._caches.values()):
            return 0.05
        resource, body = self._objects[key[0]]
        if body["metadata"].get("deletionTimestamp"):
            await self._finish(resource, body)
        else:
            await self._check(resource, body)
        return None

    async def _finish(self, resource: Resource, body: Obj) -> None:
        """An owner that waits for its dependents, or lets go of them."""
        uid, finalizers = body["metadata"]["uid"], body["metadata"].get("finalizers") or []
        children = [self._objects[one] for one in self._dependents.get(uid, ()) if one in self._objects]
        if ORPHAN in finalizers:
            for child_resource, child in children:
                await self._release(child_resource, child, {uid})
            await self._drop(resource, body, ORPHAN)
        elif FOREGROUND in finalizers:
            blocking = [child for _, child in children if any(_blocks(owner, uid) for owner in _owners(child))]
            for child in blocking:
                if not child["metadata"].get("deletionTimestamp"):
                    self.controller.put((child["metadata"]["uid"], ""))
            if not blocking:
                await self._drop(resource, body, FOREGROUND)

    async def _check(self, resource: Resource, body: Obj) -> None:
        """A dependent: does any owner still hold it?"""
        metadata = body["metadata"]
        states = {owner["uid"]: await self._state(owner, metadata.get("namespace", "")) for owner in _owners(body)}
        gone = {uid for uid, state in states.items() if state == "gone"}
        if "solid" in states.values():
            if gone:
                await self._release(resource, body, gone)
        elif states:
            in_order = "waiting" in states.values() and self._dependents.get(metadata["uid"])
            options = {"propagationPolicy": "Foreground" if in_order else "Background"}
            await self._client.delete(resource.path(*key_of(body)), **options, preconditions={"uid": metadata["uid"]})

    async def _state(self, owner: Obj, namespace: str) -> str:
        """solid, waiting (for its dependents to go) or gone."""
        if owner["uid"] in self._objects:
            metadata = self._objects[owner["uid"]][1]["metadata"]
            deleting = metadata.get("deletionTimestamp") and FOREGROUND in (metadata.get("finalizers") or ())
            return "waiting" if deleting else "solid"
        resource = self.resource(owner["apiVersion"], owner["kind"])
        if resource is None:
            return "solid"  # of a kind that nobody knows: not ours to judge
        found = await self._client.get(resource.path(namespace, owner["name"]))
        return "solid" if found is not None and found["metadata"]["uid"] == owner["uid"] else "gone"

    async def _release(self, resource: Resource, body: Obj, uids: Set[str]) -> None:
        owners = [owner for owner in _owners(body) if owner["uid"] not in uids]
        patch = {"metadata": {"uid": body["metadata"]["uid"], "ownerReferences": owners or None}}
        try:
            await self._client.merge(resource.path(*key_of(body)), patch)
        except ApiFailure as failure:
            if failure.code not in (404, 409, 422):
                raise

    async def _drop(self, resource: Resource, body: Obj, finalizer: str) -> None:
        left = [one for one in body["metadata"]["finalizers"] if one != finalizer]
        patch = {"finalizers": left or None, "resourceVersion": body["metadata"]["resourceVersion"]}
        await self._client.merge(resource.path(*key_of(body)), {"metadata": patch})


def _owners(body: Obj) -> Iterable[Obj]:
    return body["metadata"].get("ownerReferences") or ()


def _blocks(owner: Obj, uid: str) -> bool:
    return owner["uid"] == uid and bool(owner.get("blockOwnerDeletion"))


def _links(body: Obj) -> tuple[object, ...]:
    """What of an object is about its owners and its end."""
    return tuple(map(body["metadata"].get, ("uid", "ownerReferences", "finalizers", "deletionTimestamp")))
