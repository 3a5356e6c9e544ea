"""Lists and watches: what is selected, in which form, from which version on."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from model_sandbox.apiserver import errors, tables
from model_sandbox.apiserver.convert import is_plain, to_version
from model_sandbox.apiserver.errors import Obj
from model_sandbox.apiserver.kinds import Kind
from model_sandbox.apiserver.requests import Answer, ListOptions
from model_sandbox.apiserver.selectors import parse_fields, parse_labels
from model_sandbox.apiserver.store import Entry, Event, Expired, Key, Store


@dataclass(slots=True)
class Selection:
    """Which objects of a kind a request is about. `namespace` None means all."""

    kind: Kind
    namespace: str | None
    options: ListOptions

    def __post_init__(self) -> None:
        self._labels = parse_labels(self.options.labels) if self.options.labels else None
        fields = self.options.fields
        self._fields = parse_fields(fields, self.kind.fields) if fields else None

    _labels: Any = None
    _fields: Any = None

    @property
    def is_all(self) -> bool:
        """Whether nothing is filtered out but by namespace."""
        return self._labels is None and self._fields is None

    def holds(self, key: Key, entry: Entry | None) -> bool:
        """Whether an object is selected."""
        if entry is None or (self.namespace is not None and key[0] != self.namespace):
            return False
        if self._labels and not self._labels(entry.body["metadata"].get("labels") or {}):
            return False
        if self._fields is None:
            return True
        body = entry.body if is_plain(self.kind) else to_version(self.kind, entry.body)
        return bool(self._fields(body))


@dataclass(frozen=True, slots=True)
class Renderer:
    """Objects in the form a client asked for."""

    kind: Kind
    answer: Answer
    include: str
    clock: Callable[[], datetime]

    def item(self, entry: Entry) -> bytes:
        """An item of a list. Built-in kinds leave out kind and apiVersion there."""
        if self.answer.form == "metadata":
            return orjson.dumps(self._metadata(entry))
        if is_plain(self.kind) and not self.kind.custom:
            return entry.json()
        if self.kind.custom:
            return self.object(entry)
        shown = to_version(self.kind, entry.body)
        return orjson.dumps({name: value for name, value in shown.items() if name not in ("kind", "apiVersion")})

    def object(self, entry: Entry, *, columns: bool = True) -> bytes:
        """An object that stands alone."""
        if self.answer.form == "table":
            return orjson.dumps(self._table([entry], {"resourceVersion": str(entry.version)}, columns=columns))
        if self.answer.form == "metadata":
            return orjson.dumps(self._metadata(entry))
        if is_plain(self.kind):
            head = f'{{"kind":"{self.kind.kind}","apiVersion":"{self.kind.api_version}",'
            return head.encode() + entry.json()[1:]
        return orjson.dumps(to_version(self.kind, entry.body))

    def listed(self, entries: list[Entry], metadata: Obj) -> bytes:
        """A list of objects."""
        if self.answer.form == "table":
            return orjson.dumps(self._table(entries, metadata, columns=True))
        name, version = self.kind.list_kind, self.kind.api_version
        if self.answer.form == "metadata":
            name, version = "PartialObjectMetadataList", "meta.k8s.io/v1"
        if self.kind.custom and self.answer.form == "object":
            metadata = {"continue": "", **metadata}
        head = f'{{"kind":"{name}","apiVersion":"{version}","metadata":'.encode()
        items = b",".join(self.item(entry) for entry in entries)
        return head + orjson.dumps(metadata) + b',"items":[' + items + b"]}"

    def bookmark(self, version: int, *, initial_end: bool = False) -> bytes:
        """A bookmark event."""
        metadata: Obj = {"resourceVersion": str(version)}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        body: Obj = {"kind": self.kind.kind, "apiVersion": self.kind.api_version, "metadata": metadata}
        if self.answer.form == "table":
            body = tables.table(None, [], metadata)
        elif self.answer.form == "metadata":
            body = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
        return b'{"type":"BOOKMARK","object":' + orjson.dumps(body) + b"}\n"

    def event(self, what: str, entry: Entry, *, columns: bool = False) -> bytes:
        """A watch event."""
        body = self.object(entry, columns=columns)
        return b'{"type":"' + what.encode() + b'","object":' + body + b"}\n"

    def _metadata(self, entry: Entry) -> Obj:
        meta = entry.body["metadata"]
        return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta}

    def _table(self, entries: list[Entry], metadata: Obj, *, columns: bool) -> Obj:
        rows = []
        for entry in entries:
            shown = {"kind": self.kind.kind, "apiVersion": self.kind.api_version, **entry.body}
            rows.append(tables.row(self.kind, shown, self.clock(), self.include))
        return tables.table(tables.definitions(self.kind) if columns else None, rows, metadata)


def change(selection: Selection, event: Event) -> tuple[str, Entry] | None:
    """What a change looks like to a watch: objects that start or cease to match come and go."""
    before = selection.holds(event.key, event.old)
    after = selection.holds(event.key, event.new)
    if after and event.new is not None:
        return ("MODIFIED" if before else "ADDED"), event.new
    if before and event.old is not None:
        return "DELETED", event.last or _aged(event.old, event.version)
    return None


def _aged(entry: Entry, version: int) -> Entry:
    metadata = {**entry.body["metadata"], "resourceVersion": str(version)}
    return Entry(version, {**entry.body, "metadata": metadata})


def parse_version(text: str, *, get: bool = False) -> int:
    """A resourceVersion parameter; raises 400 (list) or 500 (get, watch), as Kubernetes does."""
    if text == "":
        return 0
    if not text.isdecimal():
        told = f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        raise errors.internal(told) if get else errors.bad_request(f"invalid resource version: {told}")
    return int(text)


@dataclass(frozen=True, slots=True)
class Page:
    """A list's answer."""

    entries: list[Entry]
    metadata: Obj


def list_page(store: Store, selection: Selection) -> Page:
    """The objects of a list request; raises 400, 410 or 504."""
    options = selection.options
    if options.proceed:
        if options.version not in ("", "0"):
            raise errors.bad_request("specifying resource version is not allowed when using continue")
        version, after = _read_token(options.proceed)
        found = _at(store, selection, version, "The provided continue parameter is too old")
    else:
        version, after = parse_version(options.version), ("", "")
        if version > store.version:
            raise errors.too_large_version(version, store.version)
        exact = options.match == "Exact"
        if exact:
            found = _at(store, selection, version, "The resourceVersion for the provided list is too old.")
        else:
            found = store.scan(selection.kind.storage, selection.namespace)
            version = store.version
    limit = 0 if options.version == "0" and not options.match else options.limit
    entries: list[Entry] = []
    keys: list[Key] = []
    left = 0
    for key, entry in found:
        if key <= after and options.proceed:
            continue
        if not selection.holds(key, entry):
            continue
        if limit and len(entries) == limit:
            left += 1
            continue
        entries.append(entry)
        keys.append(key)
    metadata: Obj = {"resourceVersion": str(version)}
    if left:
        metadata["continue"] = _write_token(version, keys[-1])
        if selection.is_all:
            metadata["remainingItemCount"] = left
    return Page(entries, metadata)


def _at(store: Store, selection: Selection, version: int, told: str) -> Iterator[tuple[Key, Entry]]:
    try:
        state = store.at(selection.kind.storage, version)
    except Expired:
        raise errors.gone(told) from None
    return ((key, entry) for key, entry in state.items())


def _write_token(version: int, key: Key) -> str:
    text = json.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": list(key)})
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _read_token(text: str) -> tuple[int, Key]:
    try:
        token = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        namespace, name = token["start"]
        return int(token["rv"]), (str(namespace), str(name))
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise errors.bad_request("invalid continue token: continue key is not valid") from None
