"""Keeps the store in a file, so that a control plane restarts with its objects (`--state DIR`).

The file is a log of writes, one JSON array a line; it is written anew, without what was replaced, at each start.
A last line that a crash cut off is ignored.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import IO

import orjson

from model_sandbox.apiserver.store import Event, Obj, Store


class Journal:
    """Appends every write of a store to a file, many at a time. Use `close` at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._pending: list[bytes] = []

    def restore(self, store: Store) -> None:
        """Put what the file holds into an empty store. Raises ValueError for a file that is no journal."""
        objects: dict[tuple[str, str, str], tuple[int, Obj]] = {}
        newest = 0
        for number, line in enumerate(self._lines(), start=1):
            try:
                resource, namespace, name, version, body = orjson.loads(line)
            except ValueError:
                if number == len(self._lines()):
                    break
                raise ValueError(f"{self._path}: line {number} is no entry of a journal; move the file away") from None
            newest = max(newest, version)
            if body is None:
                objects.pop((resource, namespace, name), None)
            else:
                objects[resource, namespace, name] = (version, body)
        store.restore(((resource, (space, name), *held) for (resource, space, name), held in objects.items()), newest)

    def _lines(self) -> list[bytes]:
        return self._path.read_bytes().splitlines() if self._path.exists() else []

    def follow(self, store: Store) -> None:
        """Write the store as it is, then every change."""
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            for resource, shelf in store.shelves.items():
                for key, entry in shelf.entries.items():
                    file.write(_line(resource, key, entry.version, entry.json()))
        fresh.chmod(0o600)
        fresh.replace(self._path)
        self._file = self._path.open("ab")
        store.on_change.append(self._hear)

    def _hear(self, resource: str, event: Event) -> None:
        body = event.new.json() if event.new is not None else b"null"
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._write)
        self._pending.append(_line(resource, event.key, event.version, body))

    def _write(self) -> None:
        if self._file is not None:
            self._file.write(b"".join(self._pending))
            self._file.flush()
        self._pending.clear()

    def close(self) -> None:
        """Write what is left."""
        self._write()
        if self._file is not None:
            self._file.close()
            self._file = None


def _line(resource: str, key: tuple[str, str], version: int, body: bytes) -> bytes:
    return b"[" + orjson.dumps([resource, *key, version])[1:-1] + b"," + body + b"]\n"
