"""The part that a shard writes, as JSON lines, CSV or Parquet, in a file of this machine."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import orjson

from model_server.batch.columns import Column, Columns, columns_of, rows_in, values_in
from model_server.batch.texts import json_lines, separated_lines, to_cell, to_json
from model_server.errors import ArtifactCorrupt, DependencyMissing

if TYPE_CHECKING:
    import pyarrow as arrow


#: Places among the rows, and why they have none in the file.
LeftOut: TypeAlias = Mapping[int, str]
_NOTHING: LeftOut = {}


class Output(Protocol):
    """A file that rows are added to; a context manager. A prediction wins over a column of the input of its name.

    Each way of writing returns the rows that are left out, which the format has no place for.
    """

    def write(self, rows: Sequence[dict[str, Any]], columns: Columns) -> LeftOut:
        """Add rows of the input, each with its values of the columns that the model gave."""

    def write_columns(self, cells: Columns, columns: Columns) -> LeftOut:
        """Add rows of the input that are columns: the same as the rows."""

    def write_table(self, table: arrow.Table, columns: Columns) -> LeftOut:
        """Add rows of the input that are a table of Parquet."""

    def __enter__(self) -> Output: ...

    def __exit__(self, *_: object) -> None: ...


def output_for(kind: str, path: Path) -> Output:
    """The writer of a format."""
    kinds: Mapping[str, Callable[[Path], Output]] = {"jsonl": JsonLines, "csv": Separated, "parquet": Parquet}
    return kinds[kind](path)


class JsonLines:
    """One object a line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> JsonLines:
        self._file = self._path.open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, rows: Sequence[dict[str, Any]], columns: Columns) -> LeftOut:
        """Add some rows."""
        self._file.writelines(
            to_json(row | given, end=orjson.OPT_APPEND_NEWLINE)
            for row, given in zip(rows, rows_in(columns), strict=True)
        )
        return _NOTHING

    def write_columns(self, cells: Columns, columns: Columns) -> LeftOut:
        """Add some rows."""
        self._file.write(json_lines({**cells, **columns}))
        return _NOTHING

    def write_table(self, table: arrow.Table, columns: Columns) -> LeftOut:
        """Add some rows."""
        return self.write_columns(columns_of(table), columns)


class Separated:
    """CSV whose header has the columns of the first row; what is no text, number or truth value is JSON in a cell."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: list[str] = []

    def __enter__(self) -> Separated:
        self._file = self._path.open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file, lineterminator="\n")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, rows: Sequence[dict[str, Any]], columns: Columns) -> LeftOut:
        """Add some rows. Raises ArtifactCorrupt for one with a column that the first has not."""
        if rows and not self._names:
            self._begin({**rows[0], **columns})
        known, given = set(self._names), {name: values_in(values) for name, values in columns.items()}
        for place, row in enumerate(rows):
            whole = {**row, **{name: values[place] for name, values in given.items()}}
            if not known.issuperset(whole):
                self._refuse(whole)
            self._writer.writerow([to_cell(whole.get(name)) for name in self._names])
        return _NOTHING

    def write_columns(self, cells: Columns, columns: Columns) -> LeftOut:
        """Add some rows. Raises ArtifactCorrupt."""
        whole = {**cells, **columns}
        if not self._names:
            self._begin(whole)
        if not set(self._names).issuperset(whole):
            self._refuse(whole)
        if len(self._names) == 1:  # csv.writer quotes a value that is all of a row and empty
            return self.write(rows_in(cells), columns)
        nothing = [None] * len(next(iter(whole.values())))
        self._file.write(str(separated_lines([whole.get(name, nothing) for name in self._names]), "utf-8"))
        return _NOTHING

    def write_table(self, table: arrow.Table, columns: Columns) -> LeftOut:
        """Add some rows. Raises ArtifactCorrupt."""
        return self.write_columns(columns_of(table), columns)

    def _begin(self, names: Iterable[str]) -> None:
        self._names = list(names)
        self._writer.writerow(self._names)

    def _refuse(self, names: Iterable[str]) -> None:
        strange = next(name for name in names if name not in self._names)
        raise ArtifactCorrupt(
            f"a row has the column {strange!r}, which the first row has not: CSV has no place for it",
            hint="Write jsonl: spec.output.format (--output-format).",
        )


class Parquet:
    """Parquet; all rows have the types of the first that are written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    def __enter__(self) -> Parquet:
        try:
            import pyarrow  # noqa: F401 - whether it is there
        except ModuleNotFoundError:
            raise DependencyMissing(
                "Parquet needs pyarrow, which is not installed", hint="Install modeldeploy[server-parquet]."
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is None:
            import pyarrow as arrow

            self._begin(arrow.table({}))
        self._writer.close()

    def write(self, rows: Sequence[dict[str, Any]], columns: Columns) -> LeftOut:
        """Add some rows. Raises ArtifactCorrupt for a value of another type than those before it."""
        names = dict.fromkeys(name for row in rows for name in row if name not in columns)
        given = {name: values_in(values) for name, values in columns.items()}
        return self._add({**{name: [row.get(name) for row in rows] for name in names}, **given})

    def write_columns(self, cells: Columns, columns: Columns) -> LeftOut:
        """Add some rows. Raises ArtifactCorrupt."""
        kept = {name: values for name, values in cells.items() if name not in columns}
        return self._add({name: _inferred(values) for name, values in {**kept, **columns}.items()})

    def write_table(self, table: arrow.Table, columns: Columns) -> LeftOut:
        """Add some rows, whose columns keep their types. Raises ArtifactCorrupt."""
        table = table.drop_columns([name for name in table.column_names if name in columns])
        given = {name: values_in(values) for name, values in columns.items()}

        def append(fitting: Columns, kept: Sequence[int] | None) -> None:
            self._append_table(table if kept is None else table.take(kept), fitting)

        with self._same_types():
            return _without_wide(given, append)

    def _add(self, whole: Columns) -> LeftOut:
        with self._same_types():
            return _without_wide(whole, lambda fitting, _: self._append(fitting))

    def _append(self, whole: Columns) -> None:
        import pyarrow as arrow

        if self._writer is None:
            self._begin(arrow.Table.from_pydict({name: _typed(values) for name, values in whole.items()}))
        types = {field.name: field.type for field in self._writer.schema}
        # A value of another type is taken or refused as one of a row.
        same = {
            name: values if getattr(values, "type", None) == types.get(name) else values_in(values)
            for name, values in whole.items()
        }
        self._writer.write_table(arrow.Table.from_pydict(same, schema=self._writer.schema))

    def _append_table(self, table: arrow.Table, columns: Columns) -> None:
        for name, values in columns.items():
            table = table.append_column(name, [_typed(values)])
        if self._writer is None:
            self._begin(table)
        self._writer.write_table(table.cast(self._writer.schema))

    def _begin(self, table: arrow.Table) -> None:
        from pyarrow import parquet

        self._writer = parquet.ParquetWriter(self._path, table.schema)

    @contextmanager
    def _same_types(self) -> Iterator[None]:
        import pyarrow as arrow

        try:
            yield
        except (arrow.ArrowException, KeyError, ValueError, TypeError, OverflowError) as error:
            raise ArtifactCorrupt(
                f"the rows do not all have the same columns and types, which Parquet needs: {error}",
                hint="Write jsonl: spec.output.format (--output-format).",
            ) from None


def _inferred(values: Column) -> Column:
    """A column of which Arrow has the type that it would give to the values as Python's."""
    import pyarrow as arrow

    if not isinstance(values, arrow.Array):
        return values_in(values)
    return arrow.nulls(len(values)) if values.null_count == len(values) else values


def _typed(values: Column) -> arrow.Array:
    """A column of the type that Arrow has for the values; the one without a sign where that with one is too narrow."""
    import pyarrow as arrow

    if isinstance(values, arrow.Array):
        return values
    try:
        return arrow.array(values)
    except OverflowError:
        if any(type(value) not in (int, NoneType) for value in values):
            raise
        return arrow.array(values, arrow.uint64())


def _without_wide(columns: Columns, append: Callable[[Columns, Sequence[int] | None], None]) -> LeftOut:
    """Append columns; where a whole number does not fit into 64 bits, those of the other rows."""
    import pyarrow as arrow

    try:
        append(columns, None)
        return _NOTHING
    except (OverflowError, arrow.ArrowInvalid):
        by_name = {name: values_in(values) for name, values in columns.items()}
        rows = len(next(iter(by_name.values()), ()))
        for end in (2**64, 2**63):
            left_out = {
                place: f"{name}: a whole number too large for its column of Parquet; jsonl and csv have room for it"
                for place in range(rows)
                for name, values in by_name.items()
                if _is_wide(values[place], end)
            }
            kept = [place for place in range(rows) if place not in left_out]
            with suppress(OverflowError, arrow.ArrowInvalid):
                if kept and left_out:
                    append({name: [values[place] for place in kept] for name, values in by_name.items()}, kept)
                if left_out:
                    return left_out
        raise


def _is_wide(value: Any, end: int) -> bool:
    """Whether a whole number, or one within a value, is below those of 64 bits, or not below `end`."""
    if isinstance(value, dict):
        return any(_is_wide(one, end) for one in value.values())
    if isinstance(value, list):
        return any(_is_wide(one, end) for one in value)
    return type(value) is int and not -(2**63) <= value < end
