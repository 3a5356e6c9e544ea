"""One batch job: predicts chunk by chunk and writes a part for each, so that a killed job goes on where it was.

A part appears whole or not at all, and its name is the chunk's number: a row is never lost or doubled.
`job.json` beside the parts says what they were made of; other input or another model is refused.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import orjson

from model_server.batch.reader import Row, chunks_of
from model_server.domain.model import LoadedModel
from model_server.domain.tensors import Outputs
from model_server.errors import ArtifactCorrupt, InvalidInput, SettingsInvalid, StepFailed

log = logging.getLogger(__name__)

JOB = "job.json"
SUCCESS = "_SUCCESS"
REPORT_SECONDS = 5.0


class Folder(Protocol):
    """Where parts go; an object store or a directory."""

    def names(self) -> set[str]:
        """What is there."""

    def read(self, name: str) -> bytes:
        """A file's content."""

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file, which appears at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What parts are made of."""

    input: str
    input_sha256: str
    model_sha256: str
    chunk_rows: int
    probabilities: bool
    keep_bad_rows: bool


@dataclass(slots=True)
class Summary:
    """What a job did."""

    rows: int = 0
    bad_rows: int = 0
    parts: int = 0
    skipped_parts: int = 0


def begin(plan: Plan, folder: Folder) -> set[str]:
    """The parts that an earlier run of the same plan has written. Raises SettingsInvalid for another plan's."""
    document = asdict(plan)
    names = folder.names()
    if JOB not in names:
        folder.write(JOB, orjson.dumps(document, option=orjson.OPT_INDENT_2))
        return set()
    found = orjson.loads(folder.read(JOB))
    other = [name for name, value in document.items() if found.get(name) != value]
    if other:
        was, now = found.get(other[0]), document[other[0]]
        raise SettingsInvalid(
            f"the output folder holds another job's parts: {other[0]} was {was!r}, and is {now!r} now",
            hint="Choose an empty output folder, or repeat the earlier job to finish it.",
        )
    return names


def predict_all(
    loaded: LoadedModel, rows: Iterator[Row], plan: Plan, folder: Folder, *, clock: Callable[[], float] = time.monotonic
) -> Summary:
    """Predict every row that no part holds yet, and write `_SUCCESS` at the end."""
    done = begin(plan, folder)
    summary = Summary()
    started = reported = clock()
    for number, chunk in enumerate(chunks_of(rows, plan.chunk_rows)):
        name = f"part-{number:06d}.jsonl"
        if name in done:
            summary.skipped_parts += 1
        else:
            lines, bad = predict_chunk(loaded, chunk, plan, first_row=summary.rows)
            folder.write(name, b"\n".join(lines) + b"\n")
            summary.bad_rows += bad
        summary.parts += 1
        summary.rows += len(chunk)
        if clock() - reported >= REPORT_SECONDS:
            reported = clock()
            rate = summary.rows / (reported - started)
            log.info("%d rows, %.0f rows/s", summary.rows, rate, extra={"rows": summary.rows})
    folder.write(SUCCESS, orjson.dumps(asdict(summary)))
    return summary


def predict_chunk(loaded: LoadedModel, chunk: Sequence[Row], plan: Plan, *, first_row: int) -> tuple[list[bytes], int]:
    """The output lines of some rows, and how many of them are bad.

    Raises ArtifactCorrupt that names a bad row, unless those are kept.
    """
    names = [feature.name for feature in loaded.adapter.features]
    instances = [{name: row[name] for name in names if name in row} if names else row for row in chunk]
    try:
        outputs = _predict(loaded, instances, plan)
        return [_line(row, _columns(outputs, index, loaded)) for index, row in enumerate(chunk)], 0
    except (InvalidInput, StepFailed, ValueError):
        log.info("looking for a bad row", extra={"first_row": first_row + 1})
    lines, bad = [], 0
    for index, row in enumerate(chunk):
        try:
            outputs = _predict(loaded, [instances[index]], plan)
            lines.append(_line(row, _columns(outputs, 0, loaded)))
        except (InvalidInput, StepFailed, ValueError) as error:
            text = error.whole if isinstance(error, StepFailed) else str(error).replace("instances[0].", "")
            if not plan.keep_bad_rows:
                hint = "Correct it, or keep bad rows with their error: --keep-bad-rows."
                raise ArtifactCorrupt(f"row {first_row + index + 1}: {text}", hint=hint) from None
            lines.append(_line(row, {"error": text}))
            bad += 1
    return lines, bad


def _predict(loaded: LoadedModel, instances: Sequence[Row], plan: Plan) -> Outputs:
    inputs = loaded.adapter.from_instances(list(instances), numbers_only=False)
    return loaded.model.predict(inputs, probabilities=plan.probabilities)


def _columns(outputs: Outputs, index: int, loaded: LoadedModel) -> Row:
    columns: Row = {}
    for place, (name, array) in enumerate(outputs.items()):
        value = array[index].tolist() if hasattr(array[index], "tolist") else array[index]
        if name == loaded.model.probability_output:
            names = map(str, loaded.model.classes)
            columns["probabilities"] = dict(zip(names, value, strict=True)) if loaded.model.classes else value
        else:
            columns["prediction" if place == 0 else name] = value
    return columns


def _line(row: Row, columns: Row) -> bytes:
    return orjson.dumps(
        {**row, **columns}, default=_as_json, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    )


def _as_json(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
