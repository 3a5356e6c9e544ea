"""Reads the rows of one piece of a file one by one, broken ones too, each with its place; `reading.py` calls it.

What this reads of a table is what the table says. `cells.py` and `objects.py` read plain rows faster, and the same.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import itertools
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias, cast

import orjson
from msgspec import Struct

from model_server.batch.lines import LONGEST_LINE, Lines
from model_server.batch.plan import Piece
from model_server.batch.reader import check_header
from model_server.domain.features import Feature
from model_server.errors import ArtifactCorrupt, InputUnsplittable
from model_server.inputs.text import value_of

if TYPE_CHECKING:
    import pyarrow as arrow

Row: TypeAlias = dict[str, Any]

_SEPARATORS = {"csv": ",", "tsv": "\t"}


class Record(Struct, frozen=True):
    """One row of the input: where it stands, and its values, or why it cannot be read and its text.

    `number` is that of its first byte in the text of the file, or where rows are counted (`unit`) its own, from 1.
    """

    file: str
    number: int
    row: Row | None
    error: str = ""
    text: str = ""
    unit: Literal["byte", "row"] = "byte"

    @property
    def place(self) -> str:
        """Such as `day.csv, byte 11`."""
        return f"{self.file}, {self.unit} {self.number}"


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text that is read: its rows one by one, and the lines they come from, where a row begins next.

    Between two rows, `lines` may be moved on. `names` are those of a header, none for JSON.
    """

    piece: Piece
    records: Iterator[Record]
    lines: Lines | None = None
    names: Sequence[str] = ()
    separator: str = ""


def read_piece(piece: Piece, content: BinaryIO, features: Sequence[Feature]) -> Iterator[Record]:
    """Yield every row of a piece of text once, in the order of the file, of which `content` is the whole.

    Raises ArtifactCorrupt for a file that cannot be read at all, and InputUnsplittable.
    """
    with reading(piece):
        yield from open_text(piece, content, features).records


def open_text(piece: Piece, content: BinaryIO, features: Sequence[Feature]) -> Text:
    """A piece of text before its first row; within `reading(piece)`, as all that reads from it."""
    file = unpacked(piece.file.name, content)
    if piece.format in _SEPARATORS:
        return _open_separated(piece, file, features)
    if piece.format == "json" and _is_array(file):
        return Text(piece, _read_array(piece, file))
    lines = Lines(piece, file, _aligned(piece, file))
    return Text(piece, _read_json_lines(piece, lines), lines)


def unpacked(name: str, content: BinaryIO) -> BinaryIO:
    """The text of a file, which is compressed when its name says so."""
    return cast(BinaryIO, gzip.GzipFile(fileobj=content)) if name.lower().endswith(".gz") else content


@contextmanager
def reading(piece: Piece) -> Iterator[None]:
    """Raise ArtifactCorrupt for a file that ends too early, or is not compressed as its name says."""
    try:
        yield
    except (EOFError, OSError, zlib.error) as error:
        raise ArtifactCorrupt(f"{piece.file.name}: {error}") from None


def _aligned(piece: Piece, file: BinaryIO) -> int:
    """Go to the first line that begins in the piece; return its place."""
    if not piece.start:
        return 0
    # A line that begins exactly here ends the one before it just in front.
    file.seek(piece.start - 1)
    return piece.start - 1 + len(_line(piece, file, piece.start - 1))


def _line(piece: Piece, file: BinaryIO, place: int) -> bytes:
    line = file.readline(LONGEST_LINE)
    if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
        raise ArtifactCorrupt(f"{piece.file.name}, byte {place}: the line is longer than {LONGEST_LINE} bytes")
    return line


class _Decoded:
    """Lines for csv.reader, which remembers where a record began: it may have several lines."""

    def __init__(self, lines: Iterator[tuple[int, bytes]]) -> None:
        self._lines = lines
        self.places: list[int] = []
        self.taken: list[bytes] = []
        self.is_over = False

    def __iter__(self) -> _Decoded:
        return self

    def __next__(self) -> str:
        try:
            place, line = next(self._lines)
        except StopIteration:
            self.is_over = True
            raise
        self.places.append(place)
        self.taken.append(line)
        return line.decode("utf-8-sig" if place == 0 else "utf-8")

    def begin(self) -> None:
        """Forget the lines of the record before."""
        self.places.clear()
        self.taken.clear()


def _open_separated(piece: Piece, file: BinaryIO, features: Sequence[Feature]) -> Text:
    separator = _SEPARATORS[piece.format]
    names, header_end = _header(piece, file, separator)
    place = _aligned(piece, file) if piece.start > header_end else header_end
    if place == header_end:
        file.seek(header_end)
    lines = Lines(piece, file, place)
    return Text(piece, _read_separated(piece, lines, names, separator, features), lines, names, separator)


def _read_separated(
    piece: Piece, lines: Lines, names: Sequence[str], separator: str, features: Sequence[Feature]
) -> Iterator[Record]:
    kinds: Mapping[str, Feature] = {feature.name: feature for feature in features}
    text = _Decoded(lines)
    reader = csv.reader(text, strict=True, delimiter=separator)
    while True:
        text.begin()
        try:
            values = next(reader)
        except StopIteration:
            return
        except (csv.Error, UnicodeDecodeError) as error:
            _check_end(piece, text)
            yield _broken(piece, text.places[0], f"cannot be read: {error}", b"".join(text.taken))
            continue
        if not values:
            continue
        if len(values) != len(names):
            told = f"has {len(values)} values, and the header {len(names)} names"
            yield _broken(piece, text.places[0], told, b"".join(text.taken))
            continue
        row = {name: value_of(value, kinds.get(name)) for name, value in zip(names, values, strict=True)}
        yield Record(piece.file.name, text.places[0], row)


def _check_end(piece: Piece, text: _Decoded) -> None:
    """Raise where a record that goes on at the end is more than a bad row: it may have swallowed others."""
    place = f"{piece.file.name}, byte {text.places[0]}"
    if text.is_over and piece.end < piece.file.size:
        raise InputUnsplittable(f"{place}: a value with line breaks lies across two shards")
    if text.is_over and len(text.taken) > 1:
        raise ArtifactCorrupt(f"{place}: a quote is opened and never closed", hint="Quotes in values are doubled.")


def _header(piece: Piece, file: BinaryIO, separator: str) -> tuple[list[str], int]:
    """The names of the columns, and the place behind them. Raises ArtifactCorrupt."""
    file.seek(0)
    taken = 0

    def lines() -> Iterator[str]:
        nonlocal taken
        while line := _line(piece, file, taken):
            text = line.decode("utf-8-sig" if taken == 0 else "utf-8")
            taken += len(line)
            yield text

    try:
        names = next((values for values in csv.reader(lines(), strict=True, delimiter=separator) if values), [])
    except (csv.Error, UnicodeDecodeError) as error:
        hint = "Write the table in UTF-8." if isinstance(error, UnicodeDecodeError) else ""
        raise ArtifactCorrupt(f"{piece.file.name}: the header cannot be read: {error}", hint=hint) from None
    check_header(piece.file.name, names, separator)
    return names, taken


def _read_json_lines(piece: Piece, lines: Iterator[tuple[int, bytes]]) -> Iterator[Record]:
    for place, line in lines:
        if not line.strip():
            continue
        try:
            row = orjson.loads(line.removeprefix(codecs.BOM_UTF8) if place == 0 else line)
        except orjson.JSONDecodeError as error:
            yield _broken(piece, place, f"is not JSON: {error}", line)
            continue
        if isinstance(row, dict):
            yield Record(piece.file.name, place, row)
        else:
            yield _broken(piece, place, "is not a JSON object", line)


def _is_array(file: BinaryIO) -> bool:
    beginning = file.read(64).lstrip()
    file.seek(0)
    return beginning.startswith(b"[")


def _read_array(piece: Piece, file: BinaryIO) -> Iterator[Record]:
    try:
        rows = orjson.loads(file.read())
    except orjson.JSONDecodeError as error:
        raise ArtifactCorrupt(f"{piece.file.name} is not JSON: {error}") from None
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict):
            yield Record(piece.file.name, number, row, unit="row")
        else:
            yield Record(piece.file.name, number, None, "is not a JSON object", orjson.dumps(row).decode(), "row")


def read_groups(piece: Piece, content: BinaryIO, size: int) -> Iterator[tuple[int, arrow.Table]]:
    """Yield the row groups of a piece of Parquet in tables of at most so many rows, each with the number of its first.

    Raises ArtifactCorrupt.
    """
    import pyarrow as arrow
    from pyarrow import parquet

    firsts = list(itertools.accumulate(piece.file.rows, initial=1))
    try:
        with parquet.ParquetFile(content) as file:
            for group in piece.groups:
                number = firsts[group]
                for batch in file.iter_batches(batch_size=size, row_groups=[group]):
                    yield number, arrow.Table.from_batches([batch])
                    number += batch.num_rows
    except (arrow.ArrowException, ValueError) as error:
        raise ArtifactCorrupt(f"{piece.file.name} is not Parquet: {error}") from None


def _broken(piece: Piece, place: int, error: str, line: bytes) -> Record:
    return Record(piece.file.name, place, None, error, line.decode("utf-8", "replace").rstrip("\r\n"))
