"""Whether this revision may consume: the operator tells the pods by a file of a mounted ConfigMap.

A new revision consumes once it has a share of the traffic, and no pod is restarted for it. The file names the
revisions, one a line. Without the setting there is nobody to ask, and the server consumes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

#: More than any list of revisions has.
_MOST_BYTES = 65_536


class Gate(Protocol):
    """Asked about once a second."""

    def is_open(self) -> bool:
        """Whether to consume."""


class AlwaysOpen:
    """Nobody holds this server back."""

    def is_open(self) -> bool:
        """Yes."""
        return True


class RevisionsFile:
    """Open while a file has the name of this revision; closed while there is no such file."""

    def __init__(self, file: Path, revision: str) -> None:
        self._file = file
        self._revision = revision

    def is_open(self) -> bool:
        """Whether the file names this revision now."""
        try:
            with self._file.open() as lines:
                return self._revision in lines.read(_MOST_BYTES).split()
        except (OSError, UnicodeDecodeError):
            return False
