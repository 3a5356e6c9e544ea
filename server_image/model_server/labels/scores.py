"""One revision's part of a run: its predictions, the labels they met, and the metrics of both. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from model_server.errors import DatasetInvalid
from model_server.labels.log_reader import Entry
from model_server.labels.store import WHOLE
from model_server.labels.table import labels_of
from model_server.offline_metrics import ClassificationMetrics, RegressionMetrics, Scores, plain_text

#: What a label cannot be joined for; the first one is named.
WRONG_ROWS = "the request has {rows} rows, and the labels are for {labels}"


@dataclass(frozen=True, slots=True)
class Pair:
    """A prediction's row and its label, as the model would write it; the probabilities where they were logged."""

    row: int
    prediction: Any
    label: Any
    probabilities: Sequence[float] | None


@dataclass(slots=True)
class RevisionCounts:
    """What became of one revision's predictions, in rows; `refused` are labels that it cannot be scored by."""

    version: str = ""
    predictions: int = 0
    unlabelled: int = 0
    conflicting: int = 0
    repeated: int = 0
    labelled: int = 0
    refused: int = 0
    first_refused: str = ""
    sent: int = 0
    already_sent: int = 0
    unconfirmed: int = 0
    not_sent: int = 0


@dataclass(slots=True)
class RevisionScores:
    """The counts and sums of one revision. The first prediction says whether the model answers numbers or classes."""

    classes: tuple[Any, ...] = ()
    counts: RevisionCounts = field(default_factory=RevisionCounts)
    _scores: Scores | None = None

    def refuse(self, text: str, rows: int = 1) -> None:
        """Count labels that cannot be used; the first one is named."""
        self.counts.refused += rows
        self.counts.first_refused = self.counts.first_refused or text[:500]

    def add(self, pair: Pair) -> None:
        """Score one row. Raises DatasetInvalid for a label that is no class or no number."""
        if self._scores is None:
            is_number = isinstance(pair.prediction, float) and not self.classes
            self._scores = RegressionMetrics() if is_number else ClassificationMetrics(self.classes)
        probabilities = None if pair.probabilities is None else [pair.probabilities]
        self._scores.add([pair.prediction], [pair.label], probabilities)
        self.counts.labelled += 1

    def metrics(self) -> dict[str, float]:
        """The metrics by name; none without a label."""
        return {} if self._scores is None or not self.counts.labelled else dict(self._scores.metrics())


def pairs_of(entry: Entry, found: Sequence[tuple[int, Any, bool]], classes: Sequence[Any]) -> list[Pair]:
    """The rows of a request that have labels. Raises DatasetInvalid for labels of another number of rows.

    `found` are row, label, and whether the label is contradicted, which leaves it out.
    """
    rows = len(entry.predictions)
    given: dict[int, Any] = {}
    for place, label, conflicts in found:
        if conflicts:
            continue
        if place == WHOLE:
            labels = labels_of(label) if rows > 1 or isinstance(label, list) else [label]
            if len(labels) != rows:
                raise DatasetInvalid(WRONG_ROWS.format(rows=rows, labels=f"{len(labels)}"))
            given |= dict(enumerate(labels))
        elif place >= rows:
            raise DatasetInvalid(WRONG_ROWS.format(rows=rows, labels=f"row {place}"))
        else:
            given[place] = label
    return [
        Pair(row, entry.predictions[row], typed(label, entry.predictions[row], classes), _rated(entry, row, classes))
        for row, label in sorted(given.items())
    ]


def typed(label: Any, prediction: Any, classes: Sequence[Any]) -> Any:
    """A label as the model would have answered it: a table's text `1` is the class 1. Raises DatasetInvalid."""
    if classes:
        by_text = {plain_text(one): one for one in classes}
        for value in (label, prediction):
            if plain_text(value) not in by_text:
                known = ", ".join(map(str, classes[:20]))
                raise DatasetInvalid(f"{str(value)[:40]!r} is no class of the model; its classes: {known}")
        return by_text[plain_text(label)]
    if isinstance(prediction, list | dict):
        raise DatasetInvalid("the model answers several values a row, which are not scored")
    if isinstance(prediction, bool):
        value = {"true": True, "1": True, "false": False, "0": False}.get(plain_text(label))
        if value is None:
            raise DatasetInvalid(f"{str(label)[:40]!r} is no class of the model, which answers true or false")
        return value
    if isinstance(prediction, int | float):
        return _number(label, whole=isinstance(prediction, int))
    return label if isinstance(label, str) else str(label)


def _number(label: Any, *, whole: bool) -> int | float:
    try:
        number = float(label)
    except (TypeError, ValueError):
        raise DatasetInvalid(f"{str(label)[:40]!r} is no answer of the model, which answers numbers") from None
    if not abs(number) < 1e150:  # also what is not a number; a square must be one
        raise DatasetInvalid(f"{str(label)[:40]!r} is too far from any prediction")
    return int(number) if whole and number.is_integer() else number


def _rated(entry: Entry, row: int, classes: Sequence[Any]) -> Sequence[float] | None:
    """The probabilities of a row: the output that has one for each class."""
    for output in entry.others if classes else ():
        if isinstance(output, list) and row < len(output):
            values = output[row]
            if isinstance(values, list) and len(values) == len(classes) and all(isinstance(v, float) for v in values):
                return values
    return None
