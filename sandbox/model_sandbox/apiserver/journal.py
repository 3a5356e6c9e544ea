"""Keeps the store in a SQLite file, so that a control plane restarts with its objects (`--state DIR`)."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import orjson

from model_sandbox.apiserver.store import Event, Store

# A deleted object keeps its row, without a body, for its version alone. `kill -9` loses nothing that was committed;
# to survive a power cut as well would cost every write a wait for the disk.
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
CREATE TABLE IF NOT EXISTS objects
    (resource TEXT, namespace TEXT, name TEXT, version INTEGER, body BLOB, PRIMARY KEY (resource, namespace, name));
DELETE FROM objects WHERE body IS NULL AND version < (SELECT max(version) FROM objects);
"""


class Journal:
    """Writes every change of a store to a file, many at a time. Use `close` at the end."""

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        self._path = path
        self._database = sqlite3.connect(path)
        self._pending: list[tuple[str, str, str, int, bytes | None]] = []

    def follow(self, store: Store) -> None:
        """Put what the file holds into an empty store, then keep every change.

        Raises ValueError for a file that is no journal.
        """
        try:
            self._database.executescript(_SCHEMA)
            [(newest,)] = self._database.execute("SELECT coalesce(max(version), 0) FROM objects")
            rows = self._database.execute("SELECT * FROM objects WHERE body IS NOT NULL").fetchall()
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self._path} holds no objects of a sandbox ({error}); move the file away") from None
        objects = (
            (resource, (space, name), version, orjson.loads(body)) for resource, space, name, version, body in rows
        )
        store.restore(objects, newest)
        store.on_change.append(self._hear)

    def _hear(self, resource: str, event: Event) -> None:
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._write)
        self._pending.append((resource, *event.key, event.version, event.new.json() if event.new else None))

    def _write(self) -> None:
        if not self._pending:
            return
        with self._database:
            self._database.executemany("REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", self._pending)
        self._pending.clear()

    def close(self) -> None:
        """Write what is left."""
        self._write()
        self._database.close()
