"""The part that a shard writes, as JSON lines, CSV or Parquet, in a file of this machine."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from model_server.batch.columns import Column, Columns, columns_of, rows_in, values_in
from model_server.batch.texts import json_lines, separated_lines, to_cell, to_json
from model_server.errors import ArtifactCorrupt, DependencyMissing

if TYPE_CHECKING:
    import pyarrow as arrow


class Output(Protocol):
    """A file that rows are added to; a context manager. A prediction wins over a column of the input of its name."""

    def write(self, rows: Sequence[dict[str, Any]], columns: Columns) -> None:
        """Add rows of the input, each with its values of the columns that the model gave."""

    def write_columns(self, cells: Columns, columns: Columns) -> None:
        """Add rows of the input that are columns: the same as the rows."""

    def write_table(self, table: arrow.Table, columns: Columns) -> None:
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

    def write(self, rows: Sequence[dict[str, Any]], columns: Columns) -> None:
        """Add some rows."""
        self._file.writelines(
            to_json(row | given, end=orjson.OPT_APPEND_NEWLINE)
            for row, given in zip(rows, rows_in(columns), strict=True)
        )

    def write_columns(self, cells: Columns, columns: Columns) -> None:
        """Add some rows."""
        self._file.write(json_lines({**cells, **columns}))

    def write_table(self, table: arrow.Table, columns: Columns) -> None:
        """Add some rows."""
        self.write_columns(columns_of(table), columns)


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

    def write(self, rows: Sequence[dict[str, Any]], columns: Columns) -> None:
        """Add some rows. Raises ArtifactCorrupt for one with a column that the first has not."""
        if rows and not self._names:
            self._begin({**rows[0], **columns})
        known, given = set(self._names), {name: values_in(values) for name, values in columns.items()}
        for place, row in enumerate(rows):
            whole = {**row, **{name: values[place] for name, values in given.items()}}
            if not known.issuperset(whole):
                self._refuse(whole)
            self._writer.writerow([to_cell(whole.get(name)) for name in self._names])

    def write_columns(self, cells: Columns, columns: Columns) -> None:
        """Add some rows. Raises ArtifactCorrupt."""
        whole = {**cells, **columns}
        if not self._names:
            self._begin(whole)
        if not set(self._names).issuperset(whole):
            self._refuse(whole)
        if len(self._names) == 1:  # csv.writer quotes a value that is all of a row and empty
            self.write(rows_in(cells), columns)
            return
        nothing = [None] * len(next(iter(whole.values())))
        self._file.write(str(separated_lines([whole.get(name, nothing) for name in self._names]), "utf-8"))

    def write_table(self, table: arrow.Table, columns: Columns) -> None:
        """Add some rows. Raises ArtifactCorrupt."""
        self.write_columns(columns_of(table), columns)

    def _begin(self, names: Iterable[str]) -> None:
        self._names = list(names)
        self._writer.writerow(self._names)

    def _refuse(self, names: Iterable[str]) -> None:
        strange = next(name for name in names if name not in self._names)
        raise ArtifactCorrupt(
            f"a row has the column {strange!r}, which the first row has not: CSV has no place for it",
            hint="Write jsonl: spec.output.format.",
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

    def write(self, rows: Sequence[dict[str, Any]], columns: Columns) -> None:
        """Add some rows. Raises ArtifactCorrupt for a value of another type than those before it."""
        import pyarrow as arrow

        given = {name: values_in(values) for name, values in columns.items()}
        names = dict.fromkeys(name for row in rows for name in row if name not in columns)
        table: dict[str, Sequence[Any]] = {name: [row.get(name) for row in rows] for name in names}
        with self._same_types():
            if self._writer is None:
                self._begin(arrow.Table.from_pydict({**table, **given}))
            self._writer.write_table(arrow.Table.from_pydict({**table, **given}, schema=self._writer.schema))

    def write_columns(self, cells: Columns, columns: Columns) -> None:
        """Add some rows. Raises ArtifactCorrupt."""
        import pyarrow as arrow

        kept = {name: values for name, values in cells.items() if name not in columns}
        whole = {name: _inferred(values) for name, values in {**kept, **columns}.items()}
        with self._same_types():
            if self._writer is None:
                self._begin(arrow.Table.from_pydict(whole))
            types = {field.name: field.type for field in self._writer.schema}
            # A value of another type is taken or refused as one of a row.
            same = {
                name: values if getattr(values, "type", None) == types.get(name) else values_in(values)
                for name, values in whole.items()
            }
            self._writer.write_table(arrow.Table.from_pydict(same, schema=self._writer.schema))

    def write_table(self, table: arrow.Table, columns: Columns) -> None:
        """Add some rows, whose columns keep their types. Raises ArtifactCorrupt."""
        table = table.drop_columns([name for name in table.column_names if name in columns])
        with self._same_types():
            for name, values in columns.items():
                table = table.append_column(name, [values_in(values)])
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
        except (arrow.ArrowException, KeyError, ValueError, TypeError) as error:
            raise ArtifactCorrupt(
                f"the rows do not all have the same columns and types, which Parquet needs: {error}",
                hint="Write jsonl: spec.output.format.",
            ) from None


def _inferred(values: Column) -> Column:
    """A column of which Arrow has the type that it would give to the values as Python's."""
    import pyarrow as arrow

    if not isinstance(values, arrow.Array):
        return values_in(values)
    return arrow.nulls(len(values)) if values.null_count == len(values) else values
