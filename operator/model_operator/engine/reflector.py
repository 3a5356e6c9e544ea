"""List and watch of one kind into the cache; detects deletions during a gap, and retries without limit."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from enum import Enum, auto
from typing import Protocol

from model_operator.api.json import JsonObject
from model_operator.api.resource import ObjectKey
from model_operator.api.version import KIND
from model_operator.engine.concurrency import logged
from model_operator.errors import ApiError

log = logging.getLogger(__name__)

_LONGEST_BACKOFF = 5.0
#: First and longest delay, in seconds, before a kind that the cluster does not have is listed again; the delay doubles
#: each time.
INITIAL_BACKOFF, MAX_BACKOFF = 2.0, 30.0


class Change(Enum):
    """Origin of a change of an object."""

    LISTED = auto()  # the object was in a list
    CHANGED = auto()  # a watch event
    DELETED = auto()  # the object does not exist any more


class Source(Protocol):
    """Lists and watches the objects of one kind."""

    @property
    def namespace(self) -> str:
        """The namespace that is listed and watched, empty for all."""

    @property
    def kind(self) -> str:
        """The kind."""

    def list(self) -> AsyncIterator[tuple[list[JsonObject], str]]:
        """Yield all objects by pages, each with the resourceVersion of the list."""

    def watch(self, resource_version: str) -> AsyncIterator[tuple[str, JsonObject]]:
        """Yield (type, object) of each change, until the server ends the stream."""


class Store(Protocol):
    """What a reflector needs to know of the cache that it fills."""

    def all_of(self, kind: str) -> Iterator[JsonObject]:
        """Yield every cached object of a kind."""

    def remove(self, body: JsonObject) -> object:
        """Remove a deleted object."""

    def __iter__(self) -> Iterator[ObjectKey]:
        """Yield the keys of all resources."""


class Reflector:
    """Keeps the cache equal to what the API server has of one kind."""

    def __init__(
        self,
        source: Source,
        cache: Store,
        take: Callable[[JsonObject, Change], None],
        wake: Callable[[ObjectKey], None],
        missing_kinds: set[str],
    ) -> None:
        self._source, self._cache, self._take, self._wake = source, cache, take, wake
        self._missing_kinds = missing_kinds
        self._absences = 0
        self.listed = asyncio.Event()
        self.last_sign = time.monotonic()

    @property
    def kind(self) -> str:
        """The kind that the reflector watches."""
        return self._source.kind

    async def run(self) -> None:
        """List, watch, and start over whenever the stream breaks, until cancelled."""
        backoff = 0.2
        while True:
            try:
                version = await self._relist()
                backoff = 0.2
                while True:
                    version = await self._follow(version)
            except ApiError as error:
                if error.is_absent:
                    await self._wait_for_kind()
                    continue
                log.log(_level_of(error), "%s: %s", self.kind, error)
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, _LONGEST_BACKOFF)

    async def _relist(self) -> str:
        alive: set[str] = set()
        version = ""
        async for items, list_version in self._source.list():
            self._sign()
            version = list_version
            alive.update(body["metadata"]["uid"] for body in items)
            for body in items:
                self._hand_on(body, Change.LISTED)
        self._absences = 0
        if self.kind in self._missing_kinds:
            self._missing_kinds.discard(self.kind)
            self._wake_all(self._cache)
        # Before the first list, the cache has no object that could be gone.
        for body in self._cached() if self.listed.is_set() else ():
            if body["metadata"]["uid"] not in alive and int(body["metadata"]["resourceVersion"]) <= int(version):
                self._hand_on(body, Change.DELETED)
        self.listed.set()
        return version

    def _cached(self) -> Iterator[JsonObject]:
        """Yield the cached objects of this source."""
        namespace = self._source.namespace
        for body in self._cache.all_of(self.kind):
            if namespace in ("", body["metadata"]["namespace"]):
                yield body

    async def _follow(self, version: str) -> str:
        async for type_, body in self._source.watch(version):
            self._sign()
            version = body["metadata"]["resourceVersion"]
            if type_ == "BOOKMARK":
                continue
            self._hand_on(body, Change.DELETED if type_ == "DELETED" else Change.CHANGED)
        self._sign()
        return version

    def _hand_on(self, body: JsonObject, change: Change) -> None:
        """Hand an object on; one that cannot be taken keeps no other back, and no watch from going on."""
        metadata = body["metadata"]
        with logged(f"taking {self.kind} {metadata.get('namespace')}/{metadata.get('name')}"):
            self._take(body, change)

    async def _wait_for_kind(self) -> None:
        """Report that the cluster does not have the kind, and keep trying."""
        if self.kind not in self._missing_kinds:
            log.log(logging.WARNING if self.kind == KIND else logging.INFO, "the cluster has no %s", self.kind)
            self._missing_kinds.add(self.kind)
            for body in self._cached():
                self._cache.remove(body)
            self._wake_all(self._cache)
        self._sign()
        self.listed.set()
        await asyncio.sleep(min(INITIAL_BACKOFF * 2**self._absences, MAX_BACKOFF))
        self._absences = min(self._absences + 1, 10)

    def _sign(self) -> None:
        self.last_sign = time.monotonic()

    def _wake_all(self, keys: Iterable[ObjectKey]) -> None:
        for key in keys:
            self._wake(key)


def _level_of(error: ApiError) -> int:
    """Return the log level of an error: broken streams and expired versions are routine; the client logs outages."""
    if error.is_unreachable:
        return logging.DEBUG
    return logging.INFO if error.status == 410 else logging.WARNING
