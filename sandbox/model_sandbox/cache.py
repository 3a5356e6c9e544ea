"""Copies of what the API server holds, kept fresh by a list and a watch for each kind.

Controllers, node and proxy decide from these copies. A cache never goes back in time: the answer to one's
own write may be put in, and an older watch event is then ignored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import aiohttp

from model_sandbox.client import ApiFailure, Client, Obj

log = logging.getLogger(__name__)
Key = tuple[str, str]
Listener = Callable[[Obj | None, Obj | None], None]  # old, new


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind as a path: `Resource("apps/v1", "deployments", "Deployment")`."""

    api_version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def base(self) -> str:
        """The path of the whole collection."""
        return self.path()

    def path(self, namespace: str = "", name: str = "", part: str = "") -> str:
        """The path of a namespace's collection or of one object."""
        root = "/apis/" if "/" in self.api_version else "/api/"
        place = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        tail = "".join(f"/{piece}" for piece in (name, part) if piece)
        return f"{root}{self.api_version}{place}/{self.plural}{tail}"


def key_of(body: Obj) -> Key:
    """Namespace and name."""
    metadata = body["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def controller_of(body: Obj) -> Obj | None:
    """The owner that controls an object."""
    owners = body["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)


@dataclass(slots=True)
class Cache:
    """The objects of one resource. `selector` is added to list and watch."""

    client: Client
    resource: Resource
    selector: str = ""
    objects: dict[Key, Obj] = field(default_factory=dict)
    listeners: list[Listener] = field(default_factory=list)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    _gone: dict[Key, int] = field(default_factory=dict)
    _owned: dict[str, dict[Key, None]] = field(default_factory=dict)
    _spaces: dict[str, dict[Key, None]] = field(default_factory=dict)

    def get(self, namespace: str, name: str) -> Obj | None:
        """One object."""
        return self.objects.get((namespace, name))

    def owned(self, uid: str) -> list[Obj]:
        """The objects that an owner controls."""
        return [self.objects[key] for key in self._owned.get(uid, ())]

    def within(self, namespace: str) -> list[Obj]:
        """The objects of a namespace."""
        return [self.objects[key] for key in self._spaces.get(namespace, ())]

    def __iter__(self) -> Iterator[Obj]:
        return iter(list(self.objects.values()))

    def put(self, body: Obj) -> None:
        """Take a newer version of an object."""
        key, version = key_of(body), int(body["metadata"]["resourceVersion"])
        old = self.objects.get(key)
        if old is not None and int(old["metadata"]["resourceVersion"]) >= version:
            return
        if self._gone.get(key, 0) >= version:
            return
        self._index(key, old, body)
        self.objects[key] = body
        self._tell(old, body)

    async def create(self, body: Obj) -> Obj:
        """Create an object on the server; its stored form is in the cache at once, as with the other writes."""
        path = self.resource.path(body["metadata"].get("namespace", ""))
        return self._took(await self.client.send("POST", path, body))

    async def replace(self, body: Obj, part: str = "") -> Obj:
        """Replace an object, or a part such as `status`."""
        return self._took(await self.client.send("PUT", self.resource.path(*key_of(body), part), body))

    async def merge(self, key: Key, patch: Obj, part: str = "") -> Obj:
        """Change an object by a merge patch."""
        return self._took(await self.client.merge(self.resource.path(*key, part), patch))

    async def report(self, body: Obj, status: Obj) -> None:
        """Write a status that differs from the one that is there."""
        if status != (body.get("status") or {}):
            await self.replace({**body, "status": status}, "status")

    def _took(self, body: Obj) -> Obj:
        self.put(body)
        return body

    def drop(self, key: Key, version: int) -> None:
        """Take the deletion of an object."""
        self._gone[key] = version
        old = self.objects.get(key)
        if old is not None and int(old["metadata"]["resourceVersion"]) <= version:
            del self.objects[key]
            self._index(key, old, None)
            self._tell(old, None)

    def _index(self, key: Key, old: Obj | None, new: Obj | None) -> None:
        for body, add in ((old, False), (new, True)):
            if body is None:
                continue
            owner = controller_of(body)
            for index, name in ((self._owned, owner["uid"] if owner else None), (self._spaces, key[0])):
                if name is None:
                    continue
                if add:
                    index.setdefault(name, {})[key] = None
                else:
                    index.get(name, {}).pop(key, None)
                    if not index.get(name):
                        index.pop(name, None)

    def _tell(self, old: Obj | None, new: Obj | None) -> None:
        for hear in self.listeners:
            hear(old, new)

    async def run(self) -> None:
        """List, then watch, for ever; a lost watch is taken up again or listed anew."""
        version = ""
        pause = 0.05
        while True:
            try:
                if not version:
                    version = await self._list()
                    self.ready.set()
                version = await self._watch(version)
                pause = 0.05
            except ApiFailure as failure:
                if failure.code == 410:
                    version = ""
                    continue
                log.debug("watch of %s: %s", self.resource.plural, failure)
                version = ""
            except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
                log.debug("watch of %s: %s", self.resource.plural, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)

    @property
    def _listed(self) -> str:
        return f"{self.resource.base}?{self.selector}" if self.selector else self.resource.base

    async def _list(self) -> str:
        answer = await self.client.send("GET", self._listed)
        version = str(answer["metadata"]["resourceVersion"])
        items = answer.get("items") or []
        found = {key_of(item) for item in items}
        for item in items:
            self.put({"apiVersion": self.resource.api_version, "kind": self.resource.kind, **item})
        for key in [key for key in self.objects if key not in found]:
            self.drop(key, int(version))
        self._gone.clear()
        return version

    async def _watch(self, version: str) -> str:
        async for what, body in self.client.watch(self._listed, version):
            if what == "ERROR":
                raise ApiFailure(body.get("code", 500), body)
            version = body["metadata"]["resourceVersion"]
            if what == "DELETED":
                self.drop(key_of(body), int(version))
            elif what != "BOOKMARK":
                self.put(body)
            elif len(self._gone) > 1000:
                self._gone.clear()
        return version
