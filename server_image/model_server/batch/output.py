"""The part that a shard writes, as JSON lines, CSV or Parquet, in a file of this machine."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from model_server.domain.tensors import as_json
from model_server.errors import ArtifactCorrupt, DependencyMissing

if TYPE_CHECKING:
    import pyarrow as arrow

#: A prediction wins over a column of the input of the same name.
_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE


class Output(Protocol):
    """A file that rows are added to; a context manager."""

    def write(self, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Sequence[Any]]) -> None:
        """Add rows of the input, each with its values of the columns that the model gave."""

    def write_table(self, table: arrow.Table, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add rows of the input that are a table of Arrow."""

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

    def write(self, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Sequence[Any]]) -> None:
        """Add some rows."""
        names = tuple(columns)
        self._file.writelines(
            orjson.dumps({**row, **dict(zip(names, values, strict=True))}, default=_as_json, option=_JSON)
            for row, values in zip(rows, zip(*columns.values(), strict=True), strict=True)
        )

    def write_table(self, table: arrow.Table, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add some rows."""
        self.write(table.to_pylist(), columns)


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

    def write(self, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Sequence[Any]]) -> None:
        """Add some rows. Raises ArtifactCorrupt for one with a column that the first has not."""
        if rows and not self._names:
            self._names = list({**rows[0], **columns})
            self._writer.writerow(self._names)
        known = set(self._names)
        for place, row in enumerate(rows):
            whole = {**row, **{name: values[place] for name, values in columns.items()}}
            if not known.issuperset(whole):
                strange = next(name for name in whole if name not in known)
                raise ArtifactCorrupt(
                    f"a row has the column {strange!r}, which the first row has not: CSV has no place for it",
                    hint="Write jsonl: spec.output.format.",
                )
            self._writer.writerow([_cell(whole.get(name)) for name in self._names])

    def write_table(self, table: arrow.Table, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add some rows. Raises ArtifactCorrupt."""
        self.write(table.to_pylist(), columns)


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

    def write(self, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Sequence[Any]]) -> None:
        """Add some rows. Raises ArtifactCorrupt for a value of another type than those before it."""
        import pyarrow as arrow

        names = dict.fromkeys(name for row in rows for name in row if name not in columns)
        table: dict[str, Sequence[Any]] = {name: [row.get(name) for row in rows] for name in names}
        with self._same_types():
            if self._writer is None:
                self._begin(arrow.Table.from_pydict({**table, **columns}))
            self._writer.write_table(arrow.Table.from_pydict({**table, **columns}, schema=self._writer.schema))

    def write_table(self, table: arrow.Table, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add some rows, whose columns keep their types. Raises ArtifactCorrupt."""
        table = table.drop_columns([name for name in table.column_names if name in columns])
        with self._same_types():
            for name, values in columns.items():
                table = table.append_column(name, [values])
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


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict | bool):
        return orjson.dumps(value, default=_as_json, option=_JSON).decode().rstrip()
    return value


def _as_json(value: Any) -> Any:
    try:
        return as_json(value)
    except TypeError:
        return str(value)
