"""Rows that the model predicts in one call: records that were read one by one, or a table of Parquet as its columns.

A table keeps its columns from the file to the part: an object for each value would cost more than most models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from model_server.batch.output import Output
from model_server.batch.slices import Record, Row
from model_server.domain.features import Feature
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

    def write(self, output: Output, columns: Mapping[str, Sequence[Any]]) -> None:
        """Write the rows with the values that the model gave."""


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
        return Record(record.place, record.row, error)

    def write(self, output: Output, columns: Mapping[str, Sequence[Any]]) -> None:
        """Write the rows with the values that the model gave."""
        output.write(self._rows, columns)

    @property
    def _rows(self) -> list[Row]:
        return [record.row or {} for record in self.records]


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
        arrays = self._arrays(loaded.adapter.features)
        if arrays is not None:
            try:
                return loaded.adapter.from_tensors(arrays)
            except InvalidInput:
                pass  # the rows as objects have the last word, and say it row by row
        return inputs_of(self.table.to_pylist(), loaded)

    def broken(self, error: str) -> Record:
        """The only row, as one that the model refuses."""
        (row,) = self.table.to_pylist()
        return Record(f"{self.file}, row {self.number}", row, error)

    def write(self, output: Output, columns: Mapping[str, Sequence[Any]]) -> None:
        """Write the rows with the values that the model gave."""
        output.write_table(self.table, columns)

    def _arrays(self, features: Sequence[Feature]) -> dict[str, Array] | None:
        """The columns of the features; None unless all mean what they mean as objects."""
        names = self.table.column_names
        if not features or any(names.count(feature.name) != 1 for feature in features):
            return None
        found: dict[str, Array] = {}
        for feature in features:
            column = _numbers(self.table.column(feature.name), feature)
            if column is None:
                return None
            found[feature.name] = column
        return found


def _numbers(column: arrow.ChunkedArray, feature: Feature) -> Array | None:
    """A column of numbers for a feature of numbers; None for every other, and where a value is none or too special."""
    import pyarrow as arrow

    is_whole = arrow.types.is_integer(column.type)
    if not (is_whole or arrow.types.is_float64(column.type) or arrow.types.is_float32(column.type)):
        return None
    if not feature.is_numeric or (feature.is_integer and not is_whole):
        return None
    if column.null_count and (is_whole or not feature.nullable):
        return None
    array: Array = column.to_numpy()
    # Nulls are NaN by now; what was NaN or infinite before is no number that a row could have.
    is_finite = is_whole or int((~np.isfinite(array)).sum()) == column.null_count
    return array if is_finite else None


def inputs_of(rows: Sequence[Row], loaded: LoadedModel) -> Inputs:
    """The model's arrays of rows as objects, of which only the features count. Raises InvalidInput."""
    names = [feature.name for feature in loaded.adapter.features]
    instances = [{name: row[name] for name in names if name in row} if names else row for row in rows]
    return loaded.adapter.from_instances(instances, numbers_only=False)
