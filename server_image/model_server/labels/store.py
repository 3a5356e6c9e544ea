"""The labels of one run, on disk: a table of SQLite, of which a bounded part is in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from model_server.offline_metrics import plain_text

#: Pages of SQLite that are kept in memory, in KiB; what is more lies on disk.
CACHE_KIB = 32 * 1024
#: The row of a label that is for a whole request.
WHOLE = -1
_SCHEMA = """
CREATE TABLE labels (id TEXT, row INTEGER, label TEXT, time TEXT, conflicts INTEGER DEFAULT 0,
                     found INTEGER DEFAULT 0, PRIMARY KEY (id, row)) WITHOUT ROWID;
CREATE TABLE joined (id TEXT, revision TEXT, PRIMARY KEY (id, revision)) WITHOUT ROWID;
CREATE TABLE sent (digest BLOB PRIMARY KEY) WITHOUT ROWID;
"""


@dataclass(slots=True)
class LabelCounts:
    """What became of the rows of the table of labels; the last four are told once the log is read."""

    rows: int = 0
    repeated: int = 0
    empty: int = 0
    conflicting: int = 0
    joined: int = 0
    late: int = 0
    unknown: int = 0


class LabelStore:
    """Labels by request id and row. One label twice is one; ids with two different ones are not used."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-{CACHE_KIB};")
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")
        self.counts = LabelCounts()

    def close(self) -> None:
        """Let the file go."""
        self._db.close()

    def add(self, identifier: str, row: int, label: Any, time: str) -> None:
        """Take one label; an empty one is counted and left out."""
        self.counts.rows += 1
        if label is None or label == "":
            self.counts.empty += 1
            return
        text = orjson.dumps(label, default=str).decode()
        added = self._db.execute(
            "INSERT OR IGNORE INTO labels (id, row, label, time) VALUES (?, ?, ?, ?)", (identifier, row, text, time)
        )
        if added.rowcount:
            return
        self.counts.repeated += 1
        known = self._db.execute("SELECT label FROM labels WHERE id = ? AND row = ?", (identifier, row)).fetchone()[0]
        if known != text and _comparable(orjson.loads(known)) != _comparable(label):
            self._db.execute("UPDATE labels SET conflicts = 1 WHERE id = ? AND row = ?", (identifier, row))

    def find(self, identifier: str) -> list[tuple[int, Any, bool]]:
        """The labels of a request: row, label, and whether the table has another one for the same row."""
        rows = self._db.execute("SELECT row, label, conflicts FROM labels WHERE id = ?", (identifier,)).fetchall()
        return [(row, orjson.loads(label), bool(conflicts)) for row, label, conflicts in rows]

    def join(self, identifier: str, revision: str) -> bool:
        """Remember that a prediction has met its labels; False when one of the same id and revision had before."""
        self._db.execute("UPDATE labels SET found = 1 WHERE id = ?", (identifier,))
        return bool(self._db.execute("INSERT OR IGNORE INTO joined VALUES (?, ?)", (identifier, revision)).rowcount)

    def remember_sent(self, digests: Iterable[bytes]) -> None:
        """Replace what was sent before by these digests: those of one part of the log."""
        self._db.execute("DELETE FROM sent")
        self._db.executemany("INSERT OR IGNORE INTO sent VALUES (?)", ((digest,) for digest in digests))

    def was_sent(self, digest: bytes) -> bool:
        """Whether an earlier run has sent it."""
        return self._db.execute("SELECT 1 FROM sent WHERE digest = ?", (digest,)).fetchone() is not None

    def finish(self, oldest: str) -> LabelCounts:
        """The counts, once the log is read. Labels with a time before `oldest` are late: the log has lost theirs."""
        counts = self.counts
        counts.conflicting = self._count("conflicts")
        counts.joined = self._count("found AND NOT conflicts")
        counts.late = self._count("NOT found AND NOT conflicts AND time <> '' AND time < ?", oldest)
        counts.unknown = self._count("NOT found AND NOT conflicts") - counts.late
        return counts

    def first_conflict(self) -> str:
        """The first id with two different labels, "" where there is none."""
        found = self._db.execute("SELECT id FROM labels WHERE conflicts ORDER BY id LIMIT 1").fetchone()
        return found[0] if found else ""

    def _count(self, condition: str, *values: str) -> int:
        query = f"SELECT count(*) FROM labels WHERE {condition}"  # noqa: S608 - conditions of this file
        return int(self._db.execute(query, values).fetchone()[0])


def _comparable(label: Any) -> Sequence[str]:
    return [plain_text(one) for one in label] if isinstance(label, list) else [plain_text(label)]
