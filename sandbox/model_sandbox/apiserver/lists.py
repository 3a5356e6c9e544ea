"""Lists and watches: what is selected, in which form, from which version on."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable
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

_META = "meta.k8s.io/v1"


class Selection:
    """Which objects of a kind a request is about. `namespace` None means all. Raises 400 for a bad selector."""

    def __init__(self, kind: Kind, namespace: str | None, options: ListOptions) -> None:
        self.kind = kind
        self.namespace = namespace
        self.options = options
        self._labels = parse_labels(options.labels) if options.labels else None
        self._fields = parse_fields(options.fields, kind.fields) if options.fields else None

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
        return self._fields is None or self._fields(to_version(self.kind, entry.body, bare=True))


@dataclass(frozen=True, slots=True)
class Renderer:
    """Objects in the form a client asked for. `include`: what rows of a Table carry: Metadata, Object or None."""

    kind: Kind
    answer: Answer
    include: str
    clock: Callable[[], datetime]

    def object(self, entry: Entry, *, columns: bool = True, listed: bool = False) -> bytes:
        """An object that stands alone, or in a list: there a built-in one goes without kind and apiVersion."""
        if self.answer.form == "table":
            return orjson.dumps(self._table([entry], {"resourceVersion": str(entry.version)}, columns=columns))
        if self.answer.form == "metadata":
            head = {"kind": "PartialObjectMetadata", "apiVersion": _META}
            return orjson.dumps({**head, "metadata": entry.body["metadata"]})
        bare = listed and not self.kind.custom
        data = entry.json() if is_plain(self.kind) else orjson.dumps(to_version(self.kind, entry.body, bare=True))
        return data if bare else self._head(self.kind.kind, self.kind.api_version) + data[1:]

    def _head(self, kind: str, version: str) -> bytes:
        return f'{{"kind":"{kind}","apiVersion":"{version}",'.encode()

    def listed(self, entries: list[Entry], metadata: Obj) -> bytes:
        """A list of objects."""
        if self.answer.form == "table":
            return orjson.dumps(self._table(entries, metadata, columns=True))
        head = self._head(self.kind.list_kind, self.kind.api_version)
        if self.answer.form == "metadata":
            head = self._head("PartialObjectMetadataList", _META)
        elif self.kind.custom:
            metadata = {"continue": "", **metadata}
        items = b",".join(self.object(entry, listed=True) for entry in entries)
        return head + b'"metadata":' + orjson.dumps(metadata) + b',"items":[' + items + b"]}"

    def bookmark(self, version: int, *, initial_end: bool = False) -> bytes:
        """A bookmark event."""
        metadata: Obj = {"resourceVersion": str(version)}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        body: Obj = {"kind": self.kind.kind, "apiVersion": self.kind.api_version, "metadata": metadata}
        if self.answer.form == "table":
            body = tables.table(None, [], metadata)
        elif self.answer.form == "metadata":
            body.update(kind="PartialObjectMetadata", apiVersion=_META)
        return b'{"type":"BOOKMARK","object":' + orjson.dumps(body) + b"}\n"

    def event(self, what: str, entry: Entry, *, columns: bool = False) -> bytes:
        """A watch event."""
        return b'{"type":"' + what.encode() + b'","object":' + self.object(entry, columns=columns) + b"}\n"

    def _table(self, entries: list[Entry], metadata: Obj, *, columns: bool) -> Obj:
        now = self.clock()
        shown = (to_version(self.kind, entry.body) for entry in entries)
        rows = [tables.row(self.kind, body, now, self.include) for body in shown]
        return tables.table(tables.definitions(self.kind) if columns else None, rows, metadata)


def change(selection: Selection, event: Event) -> tuple[str, Entry] | None:
    """What a change looks like to a watch: objects that start or cease to match come and go."""
    before = selection.holds(event.key, event.old)
    if event.new is not None and selection.holds(event.key, event.new):
        return ("MODIFIED" if before else "ADDED"), event.new
    if not before or event.old is None:
        return None
    metadata = {**event.old.body["metadata"], "resourceVersion": str(event.version)}
    return "DELETED", event.last or Entry(event.version, {**event.old.body, "metadata": metadata})


def parse_version(text: str, *, get: bool = False) -> int:
    """A resourceVersion parameter; raises 400 (list) or 500 (get, watch), as Kubernetes does."""
    if text and not text.isdecimal():
        told = f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        raise errors.internal(told) if get else errors.bad_request(f"invalid resource version: {told}")
    return int(text or 0)


def list_page(store: Store, selection: Selection) -> tuple[list[Entry], Obj]:
    """The objects of a list request and the list's metadata; raises 400, 410 or 504."""
    options, storage = selection.options, selection.kind.storage
    after: Key = ("", "")
    if options.proceed:
        if options.version not in ("", "0"):
            raise errors.bad_request("specifying resource version is not allowed when using continue")
        version, after = _read_token(options.proceed)
    else:
        version = parse_version(options.version)
    if version > store.version:
        raise errors.too_large_version(version, store.version)
    if options.proceed or options.match == "Exact":
        what = "continue parameter" if options.proceed else "resourceVersion for the list"
        found = _at(store, storage, version, what)
    else:
        version, found = store.version, store.scan(storage, selection.namespace)
    chosen = [(key, entry) for key, entry in found if key > after and selection.holds(key, entry)]
    limit = 0 if options.version == "0" and not options.match else options.limit
    page = chosen[:limit] if limit else chosen
    metadata: Obj = {"resourceVersion": str(version)}
    if len(page) < len(chosen):
        metadata["continue"] = _write_token(version, page[-1][0])
        if selection.is_all:
            metadata["remainingItemCount"] = len(chosen) - len(page)
    return [entry for _, entry in page], metadata


def _at(store: Store, storage: str, version: int, what: str) -> Iterable[tuple[Key, Entry]]:
    try:
        return store.at(storage, version).items()
    except Expired:
        raise errors.gone(f"The provided {what} is too old.") from None


def _write_token(version: int, key: Key) -> str:
    text = json.dumps({"v": _META, "rv": version, "start": list(key)})
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _read_token(text: str) -> tuple[int, Key]:
    try:
        token: Any = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        namespace, name = token["start"]
        return int(token["rv"]), (str(namespace), str(name))
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise errors.bad_request("invalid continue token: continue key is not valid") from None
