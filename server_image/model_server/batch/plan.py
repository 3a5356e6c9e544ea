"""The plan of a batch: which files at which version, in how many shards, by which model. The first pod writes it.

Every shard is computed from the plan alone, so that all pods agree whatever lies in the input folder later.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Literal, TypeAlias

import msgspec
import orjson
from msgspec import Struct

from model_server.batch.source import InputFile, InputFolder
from model_server.errors import ArtifactCorrupt, DependencyMissing, FormatUnknown, ModelChanged, OutputTaken
from model_server.storage.folder import Folder

PLAN = "_plan.json"
FORMATS = ("csv", "tsv", "jsonl", "json", "parquet")
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}
#: Formats in which a row can be found from any byte on.
_LINES = frozenset({"csv", "tsv", "jsonl"})

OnBadRow: TypeAlias = Literal["fail", "skip", "quarantine"]
OutputFormat: TypeAlias = Literal["jsonl", "csv", "parquet"]


class Wanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a batch was asked for; a plan is of this batch when all of it is the same."""

    id: str
    input: str
    input_format: str
    split: bool
    shards: int
    output_format: OutputFormat
    on_bad_row: OnBadRow
    probabilities: bool


class Plan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`_plan.json`."""

    wanted: Wanted
    model_sha256: str
    files: tuple[InputFile, ...]


class Piece(Struct, frozen=True):
    """A part of a file: the rows whose first byte lies between two bytes, or some row groups of a Parquet file."""

    file: InputFile
    format: str
    start: int
    end: int
    groups: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Bytes, for the progress."""
        return self.end - self.start

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole file."""
        return self.start == 0 and self.end >= self.file.size


def settle(wanted: Wanted, model_sha256: str, source: InputFolder, target: Folder) -> Plan:
    """Return the plan that lies in the output folder, or make it of the input as it is now.

    Raises:
        OutputTaken: the folder holds another batch's plan, or anything without a plan.
        ModelChanged: the plan was made for another model.
        InputNotFound, FormatUnknown, StorageUnavailable: the input.
    """
    found = target.names()
    if PLAN not in found:
        if found:
            raise OutputTaken(f"{target.uri} is not empty: it holds {min(found)}, which no batch planned")
        files = [_with_rows(file, wanted, source) for file in source.files()]
        plan = Plan(wanted=wanted, model_sha256=model_sha256, files=tuple(files))
        if target.write_new(PLAN, orjson.dumps(msgspec.to_builtins(plan), option=orjson.OPT_INDENT_2)):
            return plan
    return _checked(_read(target), wanted, model_sha256, target)


def _read(target: Folder) -> Plan:
    try:
        return msgspec.json.decode(target.read(PLAN), type=Plan)
    except msgspec.DecodeError as error:
        raise OutputTaken(f"{target.uri}/{PLAN} is no plan of this version: {error}") from None


def _checked(plan: Plan, wanted: Wanted, model_sha256: str, target: Folder) -> Plan:
    asked, planned = msgspec.structs.asdict(wanted), msgspec.structs.asdict(plan.wanted)
    other = [name for name in asked if asked[name] != planned[name]]
    if other:
        name = other[0]
        raise OutputTaken(
            f"{target.uri} holds the output of another batch: its {name} is {planned[name]!r}, and this one's"
            f" {asked[name]!r}"
        )
    if plan.model_sha256 != model_sha256:
        raise ModelChanged(
            f"the model's sha256 is {model_sha256}, and the batch began with {plan.model_sha256}: the object at its"
            " storage URI was replaced"
        )
    return plan


def format_of(name: str, given: str) -> str:
    """The format of a file. Raises FormatUnknown."""
    if given != "auto":
        return given
    path = PurePath(name.lower())
    is_compressed = path.suffix == ".gz"
    found = _SUFFIXES.get(PurePath(path.stem).suffix if is_compressed else path.suffix)
    if found is None or (is_compressed and found == "parquet"):
        raise FormatUnknown(
            f"{name} is no table that is read here",
            hint=f"Known: {', '.join(_SUFFIXES)}; text may be compressed (.csv.gz). Or name the format:"
            f" spec.input.format (--input-format): {', '.join(FORMATS)}.",
        )
    return found


def _with_rows(file: InputFile, wanted: Wanted, source: InputFolder) -> InputFile:
    if format_of(file.name, wanted.input_format) != "parquet":
        return file
    rows = group_rows(file, source)
    return InputFile(file.name, file.size, file.version, rows)


def group_rows(file: InputFile, source: InputFolder) -> tuple[int, ...]:
    """How many rows each row group has. Raises ArtifactCorrupt or DependencyMissing."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise DependencyMissing(
            "Parquet needs pyarrow, which is not installed", hint="Install modeldeploy[server-parquet]."
        ) from None
    try:
        with source.open(file) as content:
            found = parquet.ParquetFile(content).metadata
    except (arrow.ArrowException, ValueError) as error:
        raise ArtifactCorrupt(f"{file.name} is not Parquet: {error}") from None
    return tuple(found.row_group(index).num_rows for index in range(found.num_row_groups))


def shard_of(plan: Plan, index: int) -> list[Piece]:
    """Return what shard `index` reads: an equal share of all bytes, in the order of the files.

    A file that cannot be read from the middle on (compressed, a JSON array) belongs to the shard of its first byte, a
    row group to that of its first row, as if all rows of a file were equally long.
    """
    total = sum(file.size for file in plan.files)
    first, last = (total * place // plan.wanted.shards for place in (index, index + 1))
    pieces = []
    for file, begin in zip(plan.files, _offsets(plan.files), strict=True):
        piece = _piece_of(file, first - begin, last - begin, plan.wanted)
        if piece is not None:
            pieces.append(piece)
    return pieces


def _offsets(files: Sequence[InputFile]) -> Iterator[int]:
    yield from itertools.accumulate((file.size for file in files[:-1]), initial=0)


def _piece_of(file: InputFile, first: int, last: int, wanted: Wanted) -> Piece | None:
    """The part of a file between two of its bytes, which may lie outside of it."""
    kind = format_of(file.name, wanted.input_format)
    if kind == "parquet" and wanted.split:
        starts = [
            file.size * rows // max(1, sum(file.rows)) for rows in itertools.accumulate(file.rows[:-1], initial=0)
        ]
        groups = tuple(number for number, start in enumerate(starts) if first <= start < last)
        return Piece(file, kind, 0, file.size, groups) if groups and file.rows else None
    if kind in _LINES and wanted.split and not file.name.lower().endswith(".gz"):
        start, end = max(0, first), min(last, file.size)
        return Piece(file, kind, start, end) if start < end else None
    groups = tuple(range(len(file.rows)))
    return Piece(file, kind, 0, file.size, groups) if first <= 0 < last else None
