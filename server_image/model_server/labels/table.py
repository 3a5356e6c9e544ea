"""Reads a table of labels into the store: CSV, JSON lines or Parquet, one label a row."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import orjson

from model_server.batch.reader import Row, read_rows
from model_server.errors import DatasetInvalid
from model_server.labels.store import WHOLE, LabelStore

#: A request id is a header: a longer text is none.
LONGEST_ID = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The names of the table's columns; "" for one that it does not have."""

    id: str
    label: str
    row: str = ""
    time: str = ""


def read_labels(path: Path, columns: Columns, store: LabelStore) -> None:
    """Read the whole table. Raises DatasetInvalid that names the row or the columns."""
    for number, row in enumerate(read_rows(path, ()), 1):
        identifier = _cell(row, columns.id, "--id")
        if not isinstance(identifier, str | int) or not 0 < len(str(identifier)) <= LONGEST_ID:
            raise DatasetInvalid(
                f"row {number} of the labels: {columns.id} is {str(identifier)[:40]!r}, and no request id",
                hint="It is the x-request-id of the prediction, as the input log has it.",
            )
        place = _row(_cell(row, columns.row, "--row"), number) if columns.row else WHOLE
        time = time_text(_cell(row, columns.time, "--time"), number) if columns.time else ""
        store.add(str(identifier), place, _cell(row, columns.label, "--label"), time)
    if not store.counts.rows:
        raise DatasetInvalid("the table of labels has no rows")


def time_text(value: Any, number: int) -> str:
    """A time in UTC as ISO 8601 text, which sorts; "" for an empty cell. Raises DatasetInvalid."""
    if value is None or value == "":
        return ""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise DatasetInvalid(
                f"row {number} of the labels: {value[:40]!r} is no time", hint="Write 2026-01-31T12:00:00Z."
            ) from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(value, datetime):
        raise DatasetInvalid(f"row {number} of the labels: {str(value)[:40]!r} is no time")
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return str(value.astimezone(UTC).isoformat(timespec="milliseconds"))


def labels_of(label: Any) -> list[Any]:
    """The labels of a request's rows: a list, or the text of one as in CSV; a single label is a list of one."""
    if isinstance(label, str) and label.startswith("["):
        try:
            label = orjson.loads(label)
        except orjson.JSONDecodeError:
            return [label]
    return label if isinstance(label, list) else [label]


def _cell(row: Row, column: str, option: str) -> Any:
    if column in row:
        return row[column]
    near = difflib.get_close_matches(column, map(str, row), n=1, cutoff=0.5)
    raise DatasetInvalid(
        f"the labels have no column {column!r}; their columns: {', '.join(map(str, list(row)[:50]))}",
        hint=f"Did you mean {option} {near[0]}?" if near else f"Name the column: {option} COLUMN.",
    )


def _row(value: Any, number: int) -> int:
    try:
        place = int(value)
    except (TypeError, ValueError):
        place = -1
    if place < 0:
        raise DatasetInvalid(
            f"row {number} of the labels: {str(value)[:40]!r} is no row of a request", hint="The first row is 0."
        )
    return place
