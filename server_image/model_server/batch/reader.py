"""Reads tables row by row: CSV, TSV, JSON, Parquet; compressed or not; a file or a folder.

`evaluate.py`, `calibrate.py` and `labels` call it; a batch reads its shards by `reading.py`.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, BinaryIO, TypeAlias, TypeVar, cast

import orjson

from model_server.domain.features import Feature
from model_server.errors import ArtifactCorrupt, DependencyMissing, FormatUnknown
from model_server.inputs.text import named_twice, value_of

Row: TypeAlias = dict[str, Any]
Rows: TypeAlias = Iterator[Row]
Item = TypeVar("Item")


def read_rows(path: Path, features: Sequence[Feature]) -> Rows:
    """The rows of a file, or of all tables of a folder in the order of their names, as objects.

    Raises FormatUnknown, or ArtifactCorrupt that names the line.
    """
    readers = [(file, _reader_of(file)) for file in _table_files(path)]
    return itertools.chain.from_iterable(reader(file, features) for file, reader in readers)


def _table_files(path: Path) -> list[Path]:
    """The file, or the tables of a folder; Spark's marks (`_SUCCESS`, `.part.crc`) are none. Raises FormatUnknown."""
    if path.is_file():
        _reader_of(path)
        return [path]
    found = sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and not file.name.startswith(("_", ".")) and file.stat().st_size
    )
    if not found:
        raise FormatUnknown(f"{path.name} holds no table", hint=f"Known: {', '.join(_READERS)}.")
    for file in found:
        _reader_of(file)
    return found


def _reader_of(file: Path) -> Callable[[Path, Sequence[Feature]], Rows]:
    name = PurePath(file.name.lower())
    suffix = PurePath(name.stem).suffix if name.suffix == ".gz" else name.suffix
    reader = _READERS.get(suffix)
    if reader is None or (name.suffix == ".gz" and suffix == ".parquet"):
        raise FormatUnknown(
            f"{file.name} is no table that is read here",
            hint=f"Known: {', '.join(_READERS)}; text may be compressed (.csv.gz), and a folder may hold several.",
        )
    return reader


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def chunks_of(rows: Iterator[Item], size: int) -> Iterator[list[Item]]:
    """The rows in lists of `size`, the last one shorter."""
    while chunk := list(itertools.islice(rows, size)):
        yield chunk


def _read_csv(path: Path, features: Sequence[Feature]) -> Rows:
    return _read_separated(path, features, ",")


def _read_tsv(path: Path, features: Sequence[Feature]) -> Rows:
    return _read_separated(path, features, "\t")


def _read_separated(path: Path, features: Sequence[Feature], separator: str) -> Rows:
    kinds = {feature.name: feature for feature in features}
    with _open(path) as content, io.TextIOWrapper(content, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restkey="", strict=True, delimiter=separator)
        try:
            check_header(path.name, reader.fieldnames or (), separator)
            for row in reader:
                if "" in row or None in row.values():
                    raise ArtifactCorrupt(
                        f"{path.name} line {reader.line_num}: not as many values as the header has names",
                        hint="Quote values that hold commas.",
                    )
                yield {name: value_of(text, kinds.get(name)) for name, text in row.items()}
        except (csv.Error, UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
            raise ArtifactCorrupt(f"{path.name} line {reader.line_num}: {error}") from None


def check_header(name: str, names: Sequence[str], separator: str) -> None:
    """Raise ArtifactCorrupt for a header with other separators, or with the same name twice."""
    if len(names) == 1 and (other := next((one for one in ";\t|," if one in names[0]), "")):
        raise ArtifactCorrupt(
            f"{name}: the header seems to be separated by {other!r}, and {separator!r} is read",
            hint="Separate values by commas (.csv) or tabs (.tsv).",
        )
    if twice := named_twice(names):
        raise ArtifactCorrupt(f"{name} has two columns {twice!r}", hint="Leave one of them out.")


def _read_json(path: Path, features: Sequence[Feature]) -> Rows:
    """An array of objects; or lines of objects, whatever the file is called."""
    with _open(path) as file:
        beginning = file.read(64).lstrip()
    if not beginning.startswith(b"["):
        yield from _read_json_lines(path, features)
        return
    with _open(path) as file:
        try:
            rows = orjson.loads(file.read())
        except (orjson.JSONDecodeError, EOFError, OSError, zlib.error) as error:
            raise ArtifactCorrupt(f"{path.name} is not JSON: {error}") from None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ArtifactCorrupt(f"{path.name} row {number} is not a JSON object")
        yield row


def _read_json_lines(path: Path, features: Sequence[Feature]) -> Rows:
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise ArtifactCorrupt(f"{path.name} line {number} is not JSON: {error}") from None
            if not isinstance(row, dict):
                raise ArtifactCorrupt(f"{path.name} line {number} is not a JSON object")
            yield row


def _read_parquet(path: Path, features: Sequence[Feature]) -> Rows:
    try:
        import pyarrow.parquet as parquet
    except ModuleNotFoundError:
        raise DependencyMissing(
            "Parquet needs pyarrow, which is not installed", hint="Install modeldeploy[server-parquet]."
        ) from None
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=10_000):
            yield from batch.to_pylist()


_READERS: Mapping[str, Callable[[Path, Sequence[Feature]], Rows]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
