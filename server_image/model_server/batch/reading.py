"""The rows of a shard in chunks, whatever the files that they lie in; `shard.py` predicts them.

Text is read many rows at once where they are plain, and one by one elsewhere: the same rows in the same chunks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import TypeAlias

from model_server.batch.cells import read_cells
from model_server.batch.chunks import Cells, Chunk, Objects, Records, Table, together
from model_server.batch.objects import read_objects
from model_server.batch.plan import Piece
from model_server.batch.slices import Record, Text, open_text, read_groups, reading, unpacked
from model_server.batch.source import BLOCK, InputFolder
from model_server.domain.features import Feature

#: Rows of one call of the model; the same for every shard, since results of some models depend on it in the last digit.
CHUNK_ROWS = 10_000
#: Bytes of text that are sooner read row by row than Arrow is imported.
FEW_BYTES = 256 * 2**10
#: Bytes that are read again to name the line of a bad row.
MOST_COUNTED = 64 * 2**20

Rows: TypeAlias = Cells | Objects | Records


class Progress:
    """What this process has done, which `/metrics` shows. `share`: of the bytes of its shard."""

    def __init__(self) -> None:
        self.rows = 0
        self.failed_rows = 0
        self.share = 0.0

    def add(self, rows: int, failed: int) -> None:
        """Count the rows of one call."""
        self.rows += rows
        self.failed_rows += failed


def read_chunks(
    pieces: Sequence[Piece], source: InputFolder, features: Sequence[Feature], progress: Progress
) -> Iterator[tuple[Chunk, Sequence[Record]]]:
    """Yield the rows of each call of the model, and the records that were read one by one for it, broken ones too.

    Raises ArtifactCorrupt, InputChanged, InputUnsplittable or StorageUnavailable.
    """
    progress.share = 0.0
    yield from _Reader(pieces, source, features, progress).chunks()


def line_of(record: Record, pieces: Sequence[Piece], source: InputFolder) -> int | None:
    """The number of the line at which a row of text begins; None where it is too far behind to be counted."""
    if record.unit != "byte" or record.number > MOST_COUNTED:
        return None
    file = next(piece.file for piece in pieces if piece.file.name == record.file)
    lines, left = 1, record.number
    with source.open(file) as content:
        text = unpacked(file.name, content)
        while left and (block := text.read(min(left, BLOCK))):
            lines, left = lines + block.count(b"\n"), left - len(block)
    return lines


def next_rows(text: Text, count: int, features: Sequence[Feature], *, many_at_once: bool) -> Rows:
    """Read so many rows of a piece, or fewer; none at its end."""
    found: Rows | None = None
    if many_at_once and text.lines is not None:
        found = read_cells(text, text.lines, count, features) if text.names else read_objects(text, text.lines, count)
    return found or Records(list(itertools.islice(text.records, count)))


class _Reader:
    """Reads the pieces of one shard."""

    def __init__(
        self, pieces: Sequence[Piece], source: InputFolder, features: Sequence[Feature], progress: Progress
    ) -> None:
        self._pieces, self._source, self._features, self._progress = pieces, source, features, progress
        self._total, self._read = sum(piece.size for piece in pieces), 0
        self._many_at_once = self._total > FEW_BYTES and find_spec("pyarrow") is not None

    def chunks(self) -> Iterator[tuple[Chunk, Sequence[Record]]]:
        for is_table, pieces in itertools.groupby(self._pieces, key=lambda piece: piece.format == "parquet"):
            if is_table:
                for piece in pieces:
                    yield from self._tables(piece)
                continue
            for rows in self._of_one_size(pieces):
                records = rows.records if isinstance(rows, Records) else ()
                yield Records([one for one in records if one.row is not None]) if records else rows, records

    def _tables(self, piece: Piece) -> Iterator[tuple[Chunk, Sequence[Record]]]:
        rows, done = sum(piece.file.rows[group] for group in piece.groups), 0
        with self._source.open(piece.file) as content:
            for number, table in read_groups(piece, content, CHUNK_ROWS):
                done += table.num_rows
                self._tell(piece.size * done / max(1, rows))
                yield Table(table, piece.file.name, number), ()
        self._read += piece.size

    def _of_one_size(self, pieces: Iterable[Piece]) -> Iterator[Rows]:
        """The rows of text, of several files together where one ends."""
        parts: list[Rows] = []
        missing = CHUNK_ROWS
        for piece in pieces:
            with self._source.open(piece.file) as content, reading(piece):
                text = open_text(piece, content, self._features)
                while part := next_rows(text, missing, self._features, many_at_once=self._many_at_once):
                    self._tell(min(max(0, content.tell() - piece.start), piece.size))
                    parts.append(part)
                    missing -= len(part)
                    if not missing:
                        yield together(parts)
                        parts, missing = [], CHUNK_ROWS
            self._read += piece.size
        if parts:
            yield together(parts)

    def _tell(self, size: float) -> None:
        self._progress.share = (self._read + size) / self._total
