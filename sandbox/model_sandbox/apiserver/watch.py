"""One watch: reads the store's log from its place on and writes events until its time is over.

A watch keeps only a position in the shared log, so a client that never reads costs no memory; when the
log moves past it, it is told 410 and has to list again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import orjson

from model_sandbox.apiserver import errors
from model_sandbox.apiserver.lists import Renderer, Selection, change, parse_version
from model_sandbox.apiserver.store import Expired, Store

Send = Callable[[bytes], Awaitable[None]]
DEFAULT_SECONDS = 1800
BOOKMARK_SECONDS = 60.0
_BATCH = 200


class Watcher:
    """A watch request that was accepted. Raises 500 for a bad version, before anything is sent."""

    def __init__(self, store: Store, selection: Selection, renderer: Renderer) -> None:
        self._store = store
        self._selection = selection
        self._renderer = renderer
        self._shelf = store.shelf(selection.kind.storage)
        self._columns = True
        options = selection.options
        self._version = parse_version(options.version, get=True)
        self._from_now = options.version in ("", "0")
        self._initial = options.initial if options.initial is not None else self._from_now

    async def run(self, send: Send) -> None:
        """Write events until the time is over or the kind is gone."""
        changed = asyncio.Event()
        self._shelf.listeners.add(changed.set)
        try:
            await self._run(send, changed)
        except Expired:
            told = f"too old resource version: {self._version} ({self._shelf.forgotten})"
            await send(b'{"type":"ERROR","object":' + orjson.dumps(errors.gone(told).body()) + b"}\n")
        finally:
            self._shelf.listeners.discard(changed.set)

    async def _run(self, send: Send, changed: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        options = self._selection.options
        end = loop.time() + (options.timeout or DEFAULT_SECONDS)
        # The last bookmark comes shortly before the end, so that the next watch starts from there.
        bookmark = min(loop.time() + BOOKMARK_SECONDS, end - 0.5)
        position = self._shelf.end_position if self._from_now else self._shelf.position_after(self._version)
        if self._initial:
            position = self._shelf.end_position
            await self._send_initial(send)
        while not self._shelf.closed:
            changed.clear()
            position = await self._send_changes(send, position)
            wait = min(end, bookmark if options.bookmarks else end) - loop.time()
            if wait > 0 and not changed.is_set():
                # Not asyncio.wait_for, which loses a cancellation that comes with a change: the watch would never end.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await changed.wait()
            now = loop.time()
            if now >= end:
                return
            if options.bookmarks and now >= bookmark:
                await send(self._renderer.bookmark(self._store.version))
                bookmark = min(now + BOOKMARK_SECONDS, end - 0.5) if end - now > 1 else end

    async def _send_initial(self, send: Send) -> None:
        version = self._store.version
        events = []
        for key, entry in self._store.scan(self._selection.kind.storage, self._selection.namespace):
            if self._selection.holds(key, entry):
                events.append(self._event("ADDED", entry))
        for start in range(0, len(events), _BATCH):
            await send(b"".join(events[start : start + _BATCH]))
        if self._selection.options.initial and self._selection.options.bookmarks:
            await send(self._renderer.bookmark(version, initial_end=True))

    async def _send_changes(self, send: Send, position: int) -> int:
        events = self._shelf.read(position)
        for start in range(0, len(events), _BATCH):
            found = (change(self._selection, event) for event in events[start : start + _BATCH])
            lines = [self._event(*one) for one in found if one is not None]
            if lines:
                await send(b"".join(lines))
        return position + len(events)

    def _event(self, what: str, entry: object) -> bytes:
        columns, self._columns = self._columns, False
        return self._renderer.event(what, entry, columns=columns)  # type: ignore[arg-type]
