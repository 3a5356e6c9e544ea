"""The garbage collector: dependents go when their owners are gone, in the order a deletion asked for."""

from __future__ import annotations

from collections.abc import Iterator

from model_sandbox.cache import Cache, Key, Resource, key_of
from model_sandbox.client import ApiFailure, Client, Obj
from model_sandbox.controllers.base import Controller

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


class GarbageCollector:
    """Follows ownerReferences over every kind. Keys of its queue are (uid, "")."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._objects: dict[str, tuple[Resource, Obj]] = {}
        self._dependents: dict[str, dict[str, None]] = {}
        self._resources: dict[tuple[str, str], Resource] = {}
        self._caches: list[Cache] = []
        self.controller = Controller("garbage collector", self._reconcile)

    def add(self, cache: Cache) -> None:
        """Look after one more kind."""
        resource = cache.resource
        self._resources[resource.api_version, resource.kind] = resource
        self._caches.append(cache)
        for body in cache:
            self._hear(resource, None, body)
        cache.listeners.append(lambda old, new: self._hear(resource, old, new))

    def forget(self, cache: Cache) -> None:
        """A kind is no longer served."""
        self._resources.pop((cache.resource.api_version, cache.resource.kind), None)
        if cache in self._caches:
            self._caches.remove(cache)
        for body in cache:
            self._hear(cache.resource, body, None)

    def resource(self, api_version: str, kind: str) -> Resource | None:
        """The resource of a kind that is looked after."""
        return self._resources.get((api_version, kind))

    def _hear(self, resource: Resource, old: Obj | None, new: Obj | None) -> None:
        before, after = ({owner["uid"] for owner in _owners(body)} for body in (old, new))
        uid = (new or old or {})["metadata"]["uid"]
        if old is not None and new is not None and old["metadata"]["uid"] != uid:
            self._hear(resource, old, None)
            before = set()
        for owner in before - after:
            self._dependents.get(owner, {}).pop(uid, None)
            if not self._dependents.get(owner):
                self._dependents.pop(owner, None)
            self.controller.put((owner, ""))
        for owner in after - before:
            self._dependents.setdefault(owner, {})[uid] = None
        if new is None:
            self._objects.pop(uid, None)
            for dependent in self._dependents.get(uid, ()):
                self.controller.put((dependent, ""))
            return
        self._objects[uid] = (resource, new)
        waits = {FOREGROUND, ORPHAN} & set(new["metadata"].get("finalizers") or ())
        if (after and after != before) or (waits and new["metadata"].get("deletionTimestamp")):
            self.controller.put((uid, ""))

    async def _reconcile(self, key: Key) -> float | None:
        uid = key[0]
        if uid not in self._objects or not all(cache.ready.is_set() for cache in self._caches):
            return None if uid not in self._objects else 0.05
        resource, body = self._objects[uid]
        if body["metadata"].get("deletionTimestamp"):
            return await self._finish(resource, body)
        return await self._check(resource, body)

    def _children(self, uid: str) -> Iterator[tuple[Resource, Obj]]:
        for dependent in list(self._dependents.get(uid, ())):
            if dependent in self._objects:
                yield self._objects[dependent]

    async def _finish(self, resource: Resource, body: Obj) -> float | None:
        """An owner that waits for its dependents, or lets go of them."""
        metadata = body["metadata"]
        finalizers = metadata.get("finalizers") or []
        uid = metadata["uid"]
        if ORPHAN in finalizers:
            for child_resource, child in self._children(uid):
                await self._release(child_resource, child, {uid})
            await self._drop(resource, body, ORPHAN)
            return None
        if FOREGROUND not in finalizers:
            return None
        blocking = [
            (one, child)
            for one, child in self._children(uid)
            if any(owner["uid"] == uid and owner.get("blockOwnerDeletion") for owner in _owners(child))
        ]
        if not blocking:
            await self._drop(resource, body, FOREGROUND)
            return None
        for _, child in blocking:
            if not child["metadata"].get("deletionTimestamp"):
                self.controller.put((child["metadata"]["uid"], ""))
        return None

    async def _check(self, resource: Resource, body: Obj) -> float | None:
        """A dependent: does any owner still hold it?"""
        owners = _owners(body)
        if not owners:
            return None
        states = {owner["uid"]: await self._state(owner, body) for owner in owners}
        if "solid" in states.values():
            gone = {uid for uid, state in states.items() if state != "solid"}
            dangling = {uid for uid in gone if states[uid] == "gone"}
            if dangling:
                await self._release(resource, body, dangling)
            return None
        metadata = body["metadata"]
        waiting = "waiting" in states.values()
        policy = "Foreground" if waiting and self._dependents.get(metadata["uid"]) else "Background"
        path = resource.path(metadata.get("namespace", ""), metadata["name"])
        await self._client.delete(path, propagationPolicy=policy, preconditions={"uid": metadata["uid"]})
        return None

    async def _state(self, owner: Obj, body: Obj) -> str:
        """solid, waiting (for its dependents to go) or gone."""
        known = self._objects.get(owner["uid"])
        if known is None:
            resource = self._resources.get((owner["apiVersion"], owner["kind"]))
            if resource is None:
                return "solid"  # of a kind that nobody knows: not ours to judge
            namespace = body["metadata"].get("namespace", "")
            found = await self._client.get(resource.path(namespace, owner["name"]))
            return "solid" if found is not None and found["metadata"]["uid"] == owner["uid"] else "gone"
        metadata = known[1]["metadata"]
        deleting = metadata.get("deletionTimestamp") and FOREGROUND in (metadata.get("finalizers") or ())
        return "waiting" if deleting else "solid"

    async def _release(self, resource: Resource, body: Obj, uids: set[str]) -> None:
        metadata = body["metadata"]
        owners = [owner for owner in _owners(body) if owner["uid"] not in uids]
        patch = {"metadata": {"uid": metadata["uid"], "ownerReferences": owners or None}}
        try:
            await self._client.merge(resource.path(*key_of(body)), patch)
        except ApiFailure as failure:
            if failure.code not in (404, 409, 422):
                raise

    async def _drop(self, resource: Resource, body: Obj, finalizer: str) -> None:
        metadata = body["metadata"]
        left = [one for one in metadata["finalizers"] if one != finalizer]
        patch = {"metadata": {"finalizers": left or None, "resourceVersion": metadata["resourceVersion"]}}
        await self._client.merge(resource.path(*key_of(body)), patch)


def _owners(body: Obj | None) -> list[Obj]:
    return list((body or {}).get("metadata", {}).get("ownerReferences") or ())
