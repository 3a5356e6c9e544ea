"""The object store: one global version, a log of changes, nothing that waits or talks.

The API server keeps every object here. Objects are values: they are replaced, never changed in place,
so a reader may hold one as long as it likes. Watches read the log from a version on; a watch that
falls behind the log's start is told so, which bounds memory however slow its reader is.
"""

from __future__ import annotations

import bisect
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

Obj = dict[str, Any]
Key = tuple[str, str]  # namespace ("" for cluster scope), name

# Clients that resume a watch after a short absence find their version; older ones list again.
KEPT_EVENTS = 1024
# The newest of them are as good as always read: by watches that keep up.
_UNPACKED = 32
# Versions before the first write are history that was never kept.
FIRST_VERSION = 100


class Entry:
    """One version of one object, and its JSON once somebody asked for it."""

    __slots__ = ("_body", "_json", "version")

    def __init__(self, version: int, body: Obj) -> None:
        self.version = version
        self._body: Obj | None = body
        self._json = b""

    @property
    def body(self) -> Obj:
        """The object, without apiVersion and kind."""
        found: Obj = self._body if self._body is not None else orjson.loads(self._json)
        return found

    def json(self) -> bytes:
        """The object as JSON."""
        if not self._json:
            self._json = orjson.dumps(self._body)
        return self._json

    def pack(self) -> None:
        """Keep the JSON alone, which is a fifth of it: what was superseded a while ago is hardly ever read."""
        self.json()
        self._body = None


@dataclass(frozen=True, slots=True)
class Event:
    """One change: `old` is None for a creation, `new` is None for a deletion.

    `last` is what a deletion shows: the old body at the version of the deletion.
    """

    version: int
    key: Key
    old: Entry | None
    new: Entry | None
    last: Entry | None = None


class Expired(Exception):
    """The asked version is older than the log."""


@dataclass(slots=True)
class Shelf:
    """All objects of one resource type, ordered by (namespace, name), and their recent changes."""

    entries: dict[Key, Entry] = field(default_factory=dict)
    order: list[Key] = field(default_factory=list)
    log: deque[Event] = field(default_factory=deque)
    forgotten: int = FIRST_VERSION  # newest version that the log no longer explains
    listeners: set[Callable[[], None]] = field(default_factory=set)
    closed: bool = False  # its definition is gone, or another one: watches end
    began: int = 0  # older versions are not watched: they were of another definition
    stored: dict[Key, Obj] = field(default_factory=dict)  # bodies that differ from what `entries` show

    def after(self, version: int) -> list[Event]:
        """The events that are newer than `version`; raises Expired when some of them are gone."""
        if version < self.forgotten:
            raise Expired
        newer = itertools.takewhile(lambda event: event.version > version, reversed(self.log))
        return list(newer)[::-1]


class Store:
    """Every object of the control plane.

    `on_change` hears each write as (resource, event), after it happened; persistence hangs there.
    """

    def __init__(self, *, version: int = FIRST_VERSION, kept_events: int = KEPT_EVENTS) -> None:
        self.version = version
        self.shelves: dict[str, Shelf] = {}
        self.on_change: list[Callable[[str, Event], None]] = []
        self._kept = kept_events
        self._started_at = version

    def restore(self, objects: Iterable[tuple[str, Key, int, Obj]], version: int) -> None:
        """Fill an empty store; its history begins at `version`."""
        self.version = self._started_at = max(version, self.version)
        for resource, key, written, body in objects:
            self.shelf(resource).entries[key] = Entry(written, body)
        for shelf in self.shelves.values():
            shelf.order = sorted(shelf.entries)

    def shelf(self, resource: str) -> Shelf:
        """The shelf of a resource type (made on first use)."""
        if resource not in self.shelves:
            self.shelves[resource] = Shelf(forgotten=self._started_at)
        return self.shelves[resource]

    def get(self, resource: str, key: Key) -> Entry | None:
        """One object, or None."""
        return self.shelf(resource).entries.get(key)

    def scan(self, resource: str, namespace: str | None = None) -> Iterator[tuple[Key, Entry]]:
        """The objects of a resource type in key order; `None` means every namespace."""
        shelf = self.shelf(resource)
        start = bisect.bisect_left(shelf.order, (namespace or "", ""))
        for index in range(start, len(shelf.order)):
            key = shelf.order[index]
            if namespace not in (None, key[0]):
                return
            yield key, shelf.entries[key]

    def at(self, resource: str, version: int) -> dict[Key, Entry]:
        """The objects as they were at `version`, found by undoing newer events; raises Expired."""
        shelf = self.shelf(resource)
        state = dict(shelf.entries)
        for event in reversed(shelf.after(version)):
            if event.old is None:
                state.pop(event.key, None)
            else:
                state[event.key] = event.old
        return dict(sorted(state.items()))

    def put(self, resource: str, key: Key, body: Obj) -> Entry:
        """Create or replace an object. The new version is written into its metadata."""
        shelf = self.shelf(resource)
        self.version += 1
        metadata = {**body["metadata"], "resourceVersion": str(self.version)}
        entry = Entry(self.version, {**body, "metadata": metadata})
        old = shelf.entries.get(key)
        if old is None:
            bisect.insort(shelf.order, key)
        shelf.entries[key] = entry
        shelf.stored.pop(key, None)
        self._record(resource, shelf, Event(self.version, key, old, entry))
        return entry

    def remove(self, resource: str, key: Key) -> Entry:
        """Delete an object; the answer is its last body, at the version of the deletion."""
        shelf = self.shelf(resource)
        old = shelf.entries.pop(key)
        shelf.stored.pop(key, None)
        del shelf.order[bisect.bisect_left(shelf.order, key)]
        self.version += 1
        metadata = {**old.body["metadata"], "resourceVersion": str(self.version)}
        last = Entry(self.version, {**old.body, "metadata": metadata})
        self._record(resource, shelf, Event(self.version, key, old, None, last))
        return last

    def drop(self, resource: str) -> None:
        """Forget a resource type whose definition is gone."""
        shelf = self.shelves.pop(resource, None)
        if shelf is not None:
            _close(shelf)

    def renew(self, resource: str, shown: Callable[[Obj], Obj]) -> bool:
        """Show the objects of a resource type as its definition reads them now. They are not written; watches end.

        The answer is whether the type was in use.
        """
        old = self.shelves.get(resource)
        if old is None:
            return False
        shelf = Shelf(order=old.order, log=old.log, forgotten=old.forgotten, began=self.version)
        for key, entry in old.entries.items():
            stored = old.stored.get(key) or entry.body
            body = shown(stored)
            shelf.entries[key] = entry if body == entry.body else Entry(entry.version, body)
            if body != stored:
                shelf.stored[key] = stored
        self.shelves[resource] = shelf
        _close(old)
        return True

    def _record(self, resource: str, shelf: Shelf, event: Event) -> None:
        shelf.log.append(event)
        if len(shelf.log) >= _UNPACKED and (old := shelf.log[-_UNPACKED].old) is not None:
            old.pack()
        while len(shelf.log) > self._kept:
            shelf.forgotten = shelf.log.popleft().version
        for hear in self.on_change:
            hear(resource, event)
        for wake in tuple(shelf.listeners):
            wake()


def _close(shelf: Shelf) -> None:
    shelf.closed = True
    for wake in tuple(shelf.listeners):
        wake()
