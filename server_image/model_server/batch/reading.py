"""Reads CSV, JSON lines and Parquet in chunks of rows; `job.py` predicts them."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from model_server.errors import ArtifactCorrupt, DependencyMissing, FormatUnknown
from model_server.package.metadata import Feature

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
            for row in reader:
                if "" in row or None in row.values():
                    raise ArtifactCorrupt(
                        f"{path.name} line {reader.line_num}: not as many values as the header has names",
                        hint="Quote values that hold commas.",
                    )
                yield {name: _value(text, kinds.get(name)) for name, text in row.items()}
        except (csv.Error, UnicodeDecodeError) as error:
            raise ArtifactCorrupt(f"{path.name} line {reader.line_num}: {error}") from None


def _value(text: str, feature: Feature | None) -> Any:
    """A cell by its feature's type; what does not parse stays text, for the model's own check to name."""
    if feature is None or feature.dtype == "string":
        return None if text == "" and feature is not None and feature.nullable else text
    if text == "":
        return None
    if feature.dtype == "bool":
        return {"true": True, "false": False, "1": True, "0": False}.get(text.lower(), text)
    try:
        return int(text) if feature.is_integer else float(text)
    except ValueError:
        return text


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
