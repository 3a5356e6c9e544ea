"""What earlier runs have sent: objects beside the log, `labels/<day>/`, of eight bytes a label.

They are part of the log's day: whatever deletes old days by their age deletes these too.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

from model_server.errors import ArtifactCorrupt

ROOT = "labels"
DIGEST_BYTES = 8
#: Labels whose receipts wait to be written: so many may count twice when the machine fails between.
CHUNK = 2_000


class LedgerFolder(Protocol):
    """Where the log lies, and the ledger beside it."""

    def read(self, name: str) -> bytes:
        """A file's content."""

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file, which appears at once."""


def digest_of(identifier: str, row: int, revision: str) -> bytes:
    """What stands for a label that was sent to a revision."""
    return hashlib.blake2b(f"{revision}\0{row}\0{identifier}".encode(), digest_size=DIGEST_BYTES).digest()


class Ledger:
    """Reads the receipts of a part of the log, and writes those of this run."""

    def __init__(self, folder: LedgerFolder, names: set[str], *, now: datetime) -> None:
        self._folder = folder
        self._names = sorted(name for name in names if name.startswith(f"{ROOT}/"))
        self._stem = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        self._waiting: list[bytes] = []
        self._part = ""
        self._written = 0

    def begin(self, part: str) -> None:
        """Go on with another part of the log."""
        self.flush()
        self._part = part

    def receipts(self) -> Iterator[bytes]:
        """What earlier runs have sent of this part. Raises ArtifactCorrupt, StorageUnavailable."""
        for name in self._names:
            if name.startswith(f"{ROOT}/{self._part}/"):
                content = self._folder.read(name)
                if len(content) % DIGEST_BYTES:
                    raise ArtifactCorrupt(f"{name} beside the log is damaged: it holds no whole receipts")
                yield from (content[i : i + DIGEST_BYTES] for i in range(0, len(content), DIGEST_BYTES))

    def add(self, digest: bytes) -> None:
        """Note that a label was sent. Raises StorageUnavailable."""
        self._waiting.append(digest)
        if len(self._waiting) >= CHUNK:
            self.flush()

    def flush(self) -> None:
        """Write the receipts that wait."""
        if self._waiting:
            name = f"{ROOT}/{self._part}/{self._stem}-{self._written:06d}.sent"
            self._folder.write(name, b"".join(self._waiting))
            self._written += 1
            self._waiting = []
