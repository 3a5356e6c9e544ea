"""The lines of a piece of text, one by one for `slices.py` or many at once for `cells.py` and `objects.py`."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from model_server.batch.plan import Piece
from model_server.batch.source import BLOCK
from model_server.domain.tensors import Array
from model_server.errors import ArtifactCorrupt

#: Longer lines are an error, so that a file without line ends does not fill the memory.
LONGEST_LINE = 64 * 2**20
#: The most bytes that are taken at once, of lines that are all long.
MOST_BYTES = 64 * 2**20


class Lines:
    """The lines whose first byte lies in a piece, from a place on, of a file that stands there."""

    def __init__(self, piece: Piece, file: BinaryIO, place: int) -> None:
        self._piece, self._file = piece, file
        #: That of the next line.
        self.place = place
        self._buffer, self._begin = b"", 0
        self._is_over = not piece.is_whole and place >= piece.end

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> tuple[int, bytes]:
        """A line and the place of its first byte. Raises ArtifactCorrupt for one that is too long."""
        end = self._buffer.find(b"\n", self._begin) + 1
        while not end and len(self._buffer) - self._begin <= LONGEST_LINE and self._fill():
            end = self._buffer.find(b"\n", self._begin) + 1
        line = self._buffer[self._begin : end or len(self._buffer)]
        if not line:
            raise StopIteration
        if len(line) > LONGEST_LINE:
            name = self._piece.file.name
            raise ArtifactCorrupt(f"{name}, byte {self.place}: the line is longer than {LONGEST_LINE} bytes")
        place = self.place
        self.skip(len(line))
        return place, line

    def peek(self, count: int) -> tuple[bytes, Array]:
        """So many lines, or fewer where the piece ends or they are very long, and the place in them behind each."""
        ends = self._line_ends()
        while len(ends) < count and len(self._buffer) - self._begin < MOST_BYTES and self._fill():
            ends = self._line_ends()
        ends = ends[:count]
        size = len(self._buffer) - self._begin
        if len(ends) < count and self._is_over and size and (not len(ends) or ends[-1] < size):
            ends = np.append(ends, size)  # the last line of a file may have no line end
        return self._buffer[self._begin : self._begin + int(ends[-1])] if len(ends) else b"", ends

    def _line_ends(self) -> Array:
        """The place in the buffer, from the next line on, behind each line end."""
        return np.flatnonzero(np.frombuffer(self._buffer, np.uint8, offset=self._begin) == ord("\n")) + 1

    def skip(self, size: int) -> None:
        """Go on behind so many bytes."""
        self._begin += size
        self.place += size

    def _fill(self) -> bool:
        """Read on. False at the end of the piece."""
        if self._is_over:
            return False
        rest = self._buffer[self._begin :]
        content = self._file.read(max(BLOCK, len(rest)))
        self._buffer, self._begin = rest + content, 0
        self._is_over = not content
        if not self._piece.is_whole:
            # The last line is the one with the last byte of the piece.
            end = self._buffer.find(b"\n", max(0, self._piece.end - 1 - self.place)) + 1
            if end:
                self._buffer, self._is_over = self._buffer[:end], True
        return True
