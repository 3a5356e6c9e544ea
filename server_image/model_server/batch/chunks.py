"""Rows that the model predicts in one call: records that were read one by one, objects, or columns.

A table keeps its columns from the file to the part: an object for each value would cost more than most models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from model_server.batch.columns import Columns, arrays_of, columns_of, joined, rows_in
from model_server.batch.output import Output
from model_server.batch.slices import Record, Row
from model_server.domain.model import LoadedModel
from model_server.domain.tensors import Array, Inputs
from model_server.errors import InvalidInput

if TYPE_CHECKING:
    import pyarrow as arrow


class Chunk(Protocol):
    """Some rows in their order, all of which could be read."""

    def __len__(self) -> int: ...

    def part(self, begin: int, end: int) -> Chunk:
        """Some of the rows."""

    def inputs(self, loaded: LoadedModel) -> Inputs:
        """The model's arrays. Raises InvalidInput."""

    def broken(self, error: str) -> Record:
        """The only row, as one that the model refuses."""

    def write(self, output: Output, columns: Columns) -> Mapping[int, str]:
        """Write the rows with the values that the model gave; return those that are left out, and why."""


@dataclass(frozen=True, slots=True)
class Records:
    """Rows as objects."""

    records: Sequence[Record]

    def __len__(self) -> int:
        return len(self.records)

    def part(self, begin: int, end: int) -> Records:
        """Some of the rows."""
        return Records(self.records[begin:end])

    def inputs(self, loaded: LoadedModel) -> Inputs:
        """The model's arrays. Raises InvalidInput."""
        return inputs_of(self._rows, loaded)

    def broken(self, error: str) -> Record:
        """The only row, as one that the model refuses."""
        (record,) = self.records
        return Record(record.file, record.number, record.row, error, unit=record.unit)

    def write(self, output: Output, columns: Columns) -> Mapping[int, str]:
        """Write the rows with the values that the model gave; return those that are left out, and why."""
        return output.write(self._rows, columns)

    @property
    def _rows(self) -> list[Row]:
        return [record.row or {} for record in self.records]


@dataclass(frozen=True, slots=True)
class Places:
    """Where rows of text stand: of each file, its name and the bytes at which they begin."""

    files: Sequence[tuple[str, Array]]

    def __len__(self) -> int:
        return sum(len(starts) for _, starts in self.files)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return ((name, start) for name, starts in self.files for start in starts.tolist())

    def part(self, begin: int, end: int) -> Places:
        """Those of some of the rows."""
        files, first = [], 0
        for name, starts in self.files:
            files.append((name, starts[max(0, begin - first) : max(0, end - first)]))
            first += len(starts)
        return Places(files)


@dataclass(frozen=True, slots=True)
class Objects:
    """Rows of JSON lines, all of them objects."""

    rows: Sequence[Row]
    places: Places

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, begin: int, end: int) -> Objects:
        """Some of the rows."""
        return Objects(self.rows[begin:end], self.places.part(begin, end))

    def inputs(self, loaded: LoadedModel) -> Inputs:
        """The model's arrays. Raises InvalidInput."""
        names = [feature.name for feature in loaded.adapter.features]
        try:
            columns = {name: [row[name] for row in self.rows] for name in names}
        except KeyError:  # what a row may leave out, and what that means, the adapter knows
            columns = {}
        return _inputs_of(columns, loaded) or inputs_of(self.rows, loaded)

    def broken(self, error: str) -> Record:
        """The only row, as one that the model refuses."""
        return Record(*next(iter(self.places)), self.rows[0], error)

    def write(self, output: Output, columns: Columns) -> Mapping[int, str]:
        """Write the rows with the values that the model gave; return those that are left out, and why."""
        return output.write(self.rows, columns)


@dataclass(frozen=True, slots=True)
class Cells:
    """Rows of CSV as columns."""

    columns: Columns
    places: Places

    @property
    def rows(self) -> list[Row]:
        """The rows as objects."""
        return rows_in(self.columns)

    def __len__(self) -> int:
        return len(self.places)

    def part(self, begin: int, end: int) -> Cells:
        """Some of the rows."""
        return Cells({name: column[begin:end] for name, column in self.columns.items()}, self.places.part(begin, end))

    def inputs(self, loaded: LoadedModel) -> Inputs:
        """The model's arrays. Raises InvalidInput."""
        return _inputs_of(self.columns, loaded) or inputs_of(self.rows, loaded)

    def broken(self, error: str) -> Record:
        """The only row, as one that the model refuses."""
        return Record(*next(iter(self.places)), self.rows[0], error)

    def write(self, output: Output, columns: Columns) -> Mapping[int, str]:
        """Write the rows with the values that the model gave; return those that are left out, and why."""
        return output.write_columns(self.columns, columns)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a row group of Parquet. `number` is that of the first in its file, from 1."""

    table: arrow.Table
    file: str
    number: int

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def part(self, begin: int, end: int) -> Table:
        """Some of the rows."""
        return Table(self.table.slice(begin, end - begin), self.file, self.number + begin)

    def inputs(self, loaded: LoadedModel) -> Inputs:
        """The model's arrays. Raises InvalidInput."""
        return _inputs_of(columns_of(self.table), loaded) or inputs_of(self.table.to_pylist(), loaded)

    def broken(self, error: str) -> Record:
        """The only row, as one that the model refuses."""
        (row,) = self.table.to_pylist()
        return Record(self.file, self.number, row, error, unit="row")

    def write(self, output: Output, columns: Columns) -> Mapping[int, str]:
        """Write the rows with the values that the model gave; return those that are left out, and why."""
        return output.write_table(self.table, columns)


def together(parts: Sequence[Objects | Cells | Records]) -> Objects | Cells | Records:
    """The rows of several files, which the model predicts in one call."""
    if len(parts) == 1:
        return parts[0]
    plain = [part for part in parts if not isinstance(part, Records)]
    if len(plain) < len(parts):
        return Records([record for part in parts for record in _records_of(part)])
    places = Places([file for part in plain for file in part.places.files])
    cells = [part.columns for part in plain if isinstance(part, Cells)]
    if len(cells) == len(parts) and len({tuple(one) for one in cells}) == 1:
        return Cells(joined(cells), places)
    return Objects([row for part in plain for row in part.rows], places)


def _records_of(part: Objects | Cells | Records) -> Sequence[Record]:
    if isinstance(part, Records):
        return part.records
    return [Record(*place, row) for place, row in zip(part.places, part.rows, strict=True)]


def _inputs_of(columns: Columns, loaded: LoadedModel) -> Inputs | None:
    """The model's arrays of columns of numbers; None where the rows as objects have the last word."""
    arrays = arrays_of(columns, loaded.adapter.features)
    if arrays is None:
        return None
    try:
        return loaded.adapter.from_tensors(arrays)
    except InvalidInput:
        return None  # the rows say it one by one


def inputs_of(rows: Sequence[Row], loaded: LoadedModel) -> Inputs:
    """The model's arrays of rows as objects, of which only the features count. Raises InvalidInput."""
    names = [feature.name for feature in loaded.adapter.features]
    instances = [{name: row[name] for name in names if name in row} if names else row for row in rows]
    return loaded.adapter.from_instances(instances, numbers_only=False)
