"""Reads CSV, JSON lines and Parquet in chunks of rows; `job.py` predicts them."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from model_server.domain.features import Feature
from model_server.errors import ArtifactCorrupt, DependencyMissing, FormatUnknown
from model_server.inputs.text import named_twice, value_of

Row: TypeAlias = dict[str, Any]
Rows: TypeAlias = Iterator[Row]


def read_rows(path: Path, features: Sequence[Feature]) -> Rows:
    """The file's rows as objects. Raises FormatUnknown, or ArtifactCorrupt that names the line."""
    readers: Mapping[str, Callable[[Path, Sequence[Feature]], Rows]] = {
        ".csv": _read_csv,
        ".jsonl": _read_json_lines,
        ".ndjson": _read_json_lines,
        ".parquet": _read_parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise FormatUnknown(f"{path.name} is no table that is read here", hint=f"Known: {', '.join(readers)}.")
    return reader(path, features)


def chunks_of(rows: Rows, size: int) -> Iterator[list[Row]]:
    """The rows in lists of `size`, the last one shorter."""
    while chunk := list(itertools.islice(rows, size)):
        yield chunk


def _read_csv(path: Path, features: Sequence[Feature]) -> Rows:
    kinds = {feature.name: feature for feature in features}
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restkey="", strict=True)
        try:
            if twice := named_twice(reader.fieldnames or ()):
                raise ArtifactCorrupt(f"{path.name} has two columns {twice!r}", hint="Leave one of them out.")
            for row in reader:
                if "" in row or None in row.values():
                    raise ArtifactCorrupt(
                        f"{path.name} line {reader.line_num}: not as many values as the header has names",
                        hint="Quote values that hold commas.",
                    )
                yield {name: value_of(text, kinds.get(name)) for name, text in row.items()}
        except (csv.Error, UnicodeDecodeError) as error:
            raise ArtifactCorrupt(f"{path.name} line {reader.line_num}: {error}") from None


def _read_json_lines(path: Path, features: Sequence[Feature]) -> Rows:
    with path.open("rb") as file:
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
