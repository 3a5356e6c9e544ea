"""One watch: reads the store's log from its place on and writes events until its time is over.

A watch keeps only its version in the shared log, so a client that never reads costs no memory; when the
log moves past it, it is told 410 and has to list again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable

import orjson

from model_sandbox.apiserver import errors
from model_sandbox.apiserver.lists import Renderer, Selection, change, parse_version
from model_sandbox.apiserver.store import Entry, Expired, Store

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
        self._columns = True  # only the first Table of a watch names its columns
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
            oldest = max(self._shelf.forgotten, self._shelf.began)
            told = f"too old resource version: {self._version} ({oldest})"
            await send(b'{"type":"ERROR","object":' + orjson.dumps(errors.gone(told).body()) + b"}\n")
        finally:
            self._shelf.listeners.discard(changed.set)

    async def _run(self, send: Send, changed: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        options, shelf = self._selection.options, self._shelf
        end = loop.time() + (options.timeout or DEFAULT_SECONDS)
        # The last bookmark comes shortly before the end, so that the next watch starts from there.
        bookmark = min(loop.time() + BOOKMARK_SECONDS, end - 0.5)
        if self._from_now or self._initial:
            self._version = self._store.version
        if self._version < shelf.began:
            raise Expired
        if self._initial:
            await self._send_initial(send)
        while not shelf.closed:
            changed.clear()
            events = shelf.after(self._version)
            self._version = events[-1].version if events else self._version
            await self._send(send, filter(None, (change(self._selection, event) for event in events)))
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
        selection, version = self._selection, self._store.version
        found = list(self._store.scan(selection.kind.storage, selection.namespace))
        await self._send(send, (("ADDED", entry) for key, entry in found if selection.holds(key, entry)))
        if selection.options.initial and selection.options.bookmarks:
            await send(self._renderer.bookmark(version, initial_end=True))

    async def _send(self, send: Send, found: Iterable[tuple[str, Entry]]) -> None:
        lines: list[bytes] = []
        for what, entry in found:
            lines.append(self._renderer.event(what, entry, columns=self._columns))
            self._columns = False
            if len(lines) == _BATCH:
                await send(b"".join(lines))
                lines.clear()
        if lines:
            await send(b"".join(lines))
