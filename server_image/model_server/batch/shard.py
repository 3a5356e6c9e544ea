"""One shard: reads its pieces, predicts, and writes its part, which appears whole or not at all.

The marker with its sums is written before the part, so that a part that exists is done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
from msgspec import Struct

from model_server.batch.chunks import Chunk
from model_server.batch.columns import Columns
from model_server.batch.output import Output, output_for
from model_server.batch.plan import Plan, shard_of
from model_server.batch.quality import Observer, Quality
from model_server.batch.reading import Progress, line_of, read_chunks
from model_server.batch.slices import Record
from model_server.batch.source import InputFolder
from model_server.batch.texts import to_json
from model_server.domain.model import LoadedModel
from model_server.domain.tensors import Array, Inputs, Outputs
from model_server.errors import ArtifactCorrupt, BadRow, StepFailed, first_line
from model_server.storage.folder import Folder

log = logging.getLogger(__name__)

MARKERS = "_shards"
QUARANTINE = "_quarantine"
REPORT_SECONDS = 5.0


class Marker(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`_shards/00003.json`: what became of the rows of a shard."""

    shard: int
    rows: int
    failed_rows: int
    quality: Quality


def part_name(plan: Plan, index: int) -> str:
    """Such as `part-00003-of-00020.jsonl`."""
    wanted = plan.wanted
    return f"part-{index:05d}-of-{wanted.shards:05d}.{wanted.output_format}"


def marker_name(index: int) -> str:
    """Such as `_shards/00003.json`."""
    return f"{MARKERS}/{index:05d}.json"


def run_shard(
    loaded: LoadedModel,
    plan: Plan,
    index: int,
    source: InputFolder,
    target: Folder,
    scratch: Path,
    progress: Progress,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Marker:
    """Predict every row of a shard and write its part; return its marker.

    Args:
        scratch: a folder of this machine where the part grows.

    Raises:
        BadRow: a row cannot be predicted, and the batch ends at bad rows.
        InputChanged, InputUnsplittable, ArtifactCorrupt, StorageUnavailable.
    """
    pieces = shard_of(plan, index)
    for piece in pieces:
        source.check(piece.file)
    observer, name = Observer(loaded), part_name(plan, index)
    rows = failed = 0
    started = reported = clock()
    with output_for(plan.wanted.output_format, scratch / name) as part, Quarantine(scratch / "bad.jsonl") as bad:
        for chunk, records in read_chunks(pieces, source, loaded.adapter.features, progress):
            good, refused = _predict(loaded, chunk, plan, observer, part)
            broken = _in_order(refused, records)
            if broken and plan.wanted.on_bad_row == "fail":
                line = line_of(broken[0], pieces, source)
                raise BadRow(f"{broken[0].place}{f' (line {line})' if line else ''}: {broken[0].error}")
            if plan.wanted.on_bad_row == "quarantine":
                bad.write(broken)
            rows, failed = rows + good + len(broken), failed + len(broken)
            progress.add(good + len(broken), len(broken))
            if clock() - reported >= REPORT_SECONDS:
                reported = clock()
                log.info("%d rows, %.0f rows/s", rows, rows / (reported - started), extra={"shard": index})
    for piece in pieces:
        source.check(piece.file)
    marker = Marker(shard=index, rows=rows, failed_rows=failed, quality=observer.quality)
    if bad.is_used:
        target.upload(f"{QUARANTINE}/part-{index:05d}-of-{plan.wanted.shards:05d}.jsonl", bad.path)
    target.write(marker_name(index), orjson.dumps(msgspec.to_builtins(marker)))
    target.upload(name, scratch / name)
    return marker


class Quarantine:
    """The bad rows of a shard, with the reason of each."""

    def __init__(self, path: Path) -> None:
        self.path, self.is_used = path, False

    def __enter__(self) -> Quarantine:
        self._file = self.path.open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, records: Sequence[Record]) -> None:
        """Add a line for each bad row: its place, the error, and its values or its text."""
        for record in records:
            self.is_used = True
            content = {"row": record.row} if record.row is not None else {"text": record.text}
            line = {"place": record.place, "error": record.error, **content}
            self._file.write(to_json(line, default=str, end=orjson.OPT_APPEND_NEWLINE))


def read_marker(index: int, target: Folder) -> Marker:
    """The marker of a shard that is done. Raises ArtifactCorrupt."""
    try:
        return msgspec.json.decode(target.read(marker_name(index)), type=Marker)
    except msgspec.DecodeError as error:
        raise ArtifactCorrupt(f"{target.uri}/{marker_name(index)}: {error}") from None


def _predict(
    loaded: LoadedModel, chunk: Chunk, plan: Plan, observer: Observer, part: Output
) -> tuple[int, list[Record]]:
    """Write the predictions of some rows; return how many, and the rows that the model or the part's format refuses."""
    refused: list[Record] = []
    good = 0
    for found in _predicted(loaded, chunk, plan.wanted.probabilities):
        if isinstance(found, Record):
            refused.append(found)
            continue
        rows, inputs, outputs = found
        left_out = rows.write(part, named_columns(outputs, loaded))
        refused += [rows.part(place, place + 1).broken(error) for place, error in left_out.items()]
        observer.add(_without(inputs, left_out), _without(outputs, left_out))
        good += len(rows) - len(left_out)
    return good, refused


def _without(arrays: Mapping[str, Array], places: Mapping[int, str]) -> dict[str, Array]:
    """Arrays without some rows."""
    return {name: np.delete(array, list(places), axis=0) if places else array for name, array in arrays.items()}


def _in_order(refused: list[Record], records: Sequence[Record]) -> list[Record]:
    """The rows that are refused, and those that could not be read, as they stand in the input."""
    unreadable = [record for record in records if record.row is None]
    if not unreadable:
        return refused
    order = {(record.file, record.number): place for place, record in enumerate(records)}
    return sorted([*unreadable, *refused], key=lambda record: order[record.file, record.number])


def _predicted(
    loaded: LoadedModel, chunk: Chunk, probabilities: bool
) -> Iterator[tuple[Chunk, Inputs, Outputs] | Record]:
    """Yield the outputs of rows, in order: of all at once, else of halves, so that each bad row stands alone."""
    if not len(chunk):
        return
    try:
        inputs = chunk.inputs(loaded)
        outputs = loaded.model.predict(inputs, probabilities=probabilities)
    except MemoryError:
        raise
    except Exception as error:
        if len(chunk) == 1:
            text = error.whole if isinstance(error, StepFailed) else first_line(error).replace("instances[0].", "")
            yield chunk.broken(text or type(error).__name__)
            return
        half = len(chunk) // 2
        yield from _predicted(loaded, chunk.part(0, half), probabilities)
        yield from _predicted(loaded, chunk.part(half, len(chunk)), probabilities)
        return
    yield chunk, inputs, outputs


def named_columns(outputs: Outputs, loaded: LoadedModel) -> Columns:
    """The columns that a part has besides the input's own: `prediction`, other outputs, and `probabilities`."""
    columns: dict[str, Any] = {}
    for place, (name, array) in enumerate(outputs.items()):
        if name == loaded.model.probability_output:
            values = array.tolist()
            classes = [str(one) for one in loaded.model.classes]
            columns["probabilities"] = [dict(zip(classes, row, strict=True)) for row in values] if classes else values
        else:
            columns["prediction" if place == 0 else name] = array
    return columns
