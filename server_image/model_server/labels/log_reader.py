"""Reads the input log that `monitoring/input_log.py` writes: entries in their order, one in memory at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import orjson

from model_server.monitoring.input_log import REDACTED

_DATED = re.compile(r"\d{4}-\d{2}-\d{2}/[^/]+\.jsonl")
#: A longer line is no entry that this server wrote.
LONGEST_LINE = 64 * 2**20


class LogFolder(Protocol):
    """Where the log lies."""

    def names(self) -> set[str]:
        """The names below it."""

    def lines(self, name: str, longest: int) -> Iterator[bytes]:
        """A file's lines; one that is longer than `longest` bytes is cut."""


@dataclass(frozen=True, slots=True)
class Part:
    """A day of the log, or the one file that it is."""

    name: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One logged request: the first output row by row."""

    id: str
    time: str
    revision: str
    version: str
    predictions: list[Any]
    #: The outputs after the first.
    others: tuple[Any, ...] = ()


@dataclass(slots=True)
class LogCounts:
    """What the lines of the log were."""

    lines: int = 0
    entries: int = 0
    #: Lines of a server's other loggers, which share its stdout.
    other_lines: int = 0
    other_models: int = 0
    #: Before the time from which on the log is read.
    earlier: int = 0
    without_id: int = 0
    broken: int = 0
    first_broken: str = ""


class LogReader:
    """The entries of one model. `counts` tells of every line what it was."""

    def __init__(self, folder: LogFolder, model: str, *, since: str = "") -> None:
        self._folder = folder
        self._model = model
        self._since = since
        self.counts = LogCounts()
        self.oldest = ""
        #: The first other model that was met.
        self.other_model = ""

    def entries(self, part: Part) -> Iterator[Entry]:
        """The entries of a part of the log. Raises StorageUnavailable."""
        for name in part.files:
            for number, line in enumerate(self._folder.lines(name, LONGEST_LINE), 1):
                if not line.strip():
                    continue
                self.counts.lines += 1
                try:
                    entry = self._entry(line)
                except (ValueError, TypeError, KeyError, AttributeError) as error:
                    self._broken(f"{name} line {number}: {_described(error)}")
                    continue
                if entry is not None:
                    self.counts.entries += 1
                    self.oldest = min(self.oldest or entry.time, entry.time)
                    yield entry

    def _entry(self, line: bytes) -> Entry | None:
        document = orjson.loads(line)
        # A collector of the HTTP sink keeps whole events.
        if document.get("type") == "dev.modeldeploy.prediction":
            document = document["data"]
        if document.get("logger") != "input_log":
            self.counts.other_lines += 1
            return None
        if document["model"] != self._model:
            self.counts.other_models += 1
            self.other_model = self.other_model or str(document["model"])
            return None
        if str(document["time"]) < self._since:
            self.counts.earlier += 1
            return None
        if not isinstance(document["id"], str) or document["id"] in ("", REDACTED):
            self.counts.without_id += 1
            return None
        return _entry_of(document)

    def _broken(self, text: str) -> None:
        self.counts.broken += 1
        self.counts.first_broken = self.counts.first_broken or text


def parts_of(names: set[str], *, since: str = "") -> list[Part]:
    """The days of a log, the oldest first; those before `since` are left out."""
    dated = sorted(name for name in names if _DATED.fullmatch(name) and name[:10] >= since[:10])
    return [Part(day, tuple(files)) for day, files in groupby(dated, key=lambda name: name[:10])]


def _entry_of(document: Mapping[str, Any]) -> Entry:
    outputs = list(document["outputs"].values())
    predictions = outputs[0]
    if not isinstance(predictions, list):
        raise TypeError("its outputs are no lists of rows")
    return Entry(
        id=document["id"],
        time=document["time"],
        revision=str(document.get("revision") or ""),
        version=str(document.get("version") or ""),
        predictions=predictions,
        others=tuple(outputs[1:]),
    )


def _described(error: Exception) -> str:
    if isinstance(error, orjson.JSONDecodeError):
        return "not JSON"
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return "not an entry of an input log"
