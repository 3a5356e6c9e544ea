"""Copies of what the API server holds, kept fresh by a list and a watch for each kind.

Controllers, node and proxy decide from these copies, and those of one process share them. A cache never goes back in
time: the answer to one's own write may be put in, and an older watch event is then ignored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass

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

    def path(self, namespace: str = "", name: str = "", part: str = "") -> str:
        """The path of one object, of a namespace's collection or of the whole one."""
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


def _version(body: Obj) -> int:
    return int(body["metadata"]["resourceVersion"])


class Cache:
    """The objects of one resource, but for what the API server alone reads of them."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.objects: dict[Key, Obj] = {}
        self.ready = asyncio.Event()
        self._listeners: list[Listener] = []
        self._gone: dict[Key, int] = {}
        self._owned = Index(self, lambda body: [owner["uid"]] if (owner := controller_of(body)) else [])

    def get(self, namespace: str, name: str) -> Obj | None:
        """One object."""
        return self.objects.get((namespace, name))

    def owned(self, owner: Obj) -> list[Obj]:
        """The objects of an owner's namespace that it controls."""
        return [self.objects[key] for key in self._owned.keys(key_of(owner)[0], owner["metadata"]["uid"])]

    def __iter__(self) -> Iterator[Obj]:
        return iter(list(self.objects.values()))

    def listen(self, hear: Listener) -> None:
        """Have all that is there and every change told."""
        self._listeners.append(hear)
        for body in self:
            hear(None, body)

    def put(self, body: Obj) -> None:
        """Take a newer version of an object."""
        key, version = key_of(body), _version(body)
        old = self.objects.get(key)
        if self._gone.get(key, 0) >= version or (old is not None and _version(old) >= version):
            return
        # More than half of an object, and a write without it leaves it as it is.
        body["metadata"].pop("managedFields", None)
        self.objects[key] = body
        self._tell(old, body)

    def drop(self, key: Key, version: int) -> None:
        """Take the deletion of an object."""
        self._gone[key] = version
        old = self.objects.get(key)
        if old is not None and _version(old) <= version:
            del self.objects[key]
            self._tell(old, None)

    def _tell(self, old: Obj | None, new: Obj | None) -> None:
        for hear in self._listeners:
            hear(old, new)

    async def run(self, client: Client) -> None:
        """List, then watch, for ever; a lost watch is taken up again or listed anew."""
        version = ""
        pause = 0.05
        while True:
            try:
                if not version:
                    version = await self._list(client)
                    self.ready.set()
                version = await self._watch(client, version)
                pause = 0.05
            except ApiFailure as failure:
                version = ""
                if failure.code == 410:
                    continue
                log.debug("watch of %s: %s", self.resource.plural, failure)
            except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
                log.debug("watch of %s: %s", self.resource.plural, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)

    async def _list(self, client: Client) -> str:
        answer = await client.send("GET", self.resource.path())
        version = str(answer["metadata"]["resourceVersion"])
        items = answer.get("items") or []
        found = {key_of(item) for item in items}
        for item in items:
            self.put({"apiVersion": self.resource.api_version, "kind": self.resource.kind, **item})
        for key in [key for key in self.objects if key not in found]:
            self.drop(key, int(version))
        self._gone.clear()
        return version

    async def _watch(self, client: Client, version: str) -> str:
        async for what, body in client.watch(self.resource.path(), version):
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


class Index:
    """The keys of a cache's objects by marks that are found in them, within each namespace."""

    def __init__(self, cache: Cache, marks: Callable[[Obj], Iterable[Hashable]]) -> None:
        self._keys: dict[tuple[str, Hashable], dict[Key, None]] = {}
        self._marks = marks
        cache.listen(self._hear)

    def _hear(self, old: Obj | None, new: Obj | None) -> None:
        for key, place in self._places(old):
            self._keys[place].pop(key)
            if not self._keys[place]:
                del self._keys[place]
        for key, place in self._places(new):
            self._keys.setdefault(place, {})[key] = None

    def _places(self, body: Obj | None) -> list[tuple[Key, tuple[str, Hashable]]]:
        if body is None:
            return []
        key = key_of(body)
        return [(key, (key[0], mark)) for mark in self._marks(body)]

    def keys(self, namespace: str, mark: Hashable) -> Mapping[Key, None]:
        """The keys of what has this mark."""
        return self._keys.get((namespace, mark), {})
