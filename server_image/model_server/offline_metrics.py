"""How good a model is on labelled rows: sums that grow chunk by chunk, and the metrics made of them. Pure.

`evaluate.py` and `labels/` call it. Precision, recall and F1 are those of `/feedback`: of two classes the second is the
positive one, more are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from model_server.errors import DatasetInvalid
from model_server.monitoring.feedback import macro_averages

CLASSIFICATION = ("accuracy", "precision", "recall", "f1", "log-loss")
REGRESSION = ("mse", "mae", "r2")
#: Largest differences between two groups: of positive predictions, of true positive rates, of these and of false ones.
DIFFERENCES = ("selection-rate-difference", "equal-opportunity-difference", "equalized-odds-difference")
#: Metrics of a classifier that compare groups; `group_metrics.py` computes them.
GROUP_METRICS = (*DIFFERENCES, "worst-group-accuracy")
#: A probability below this counts as this much, as in scikit-learn: one row must not make the loss infinite.
_LEAST_PROBABILITY = 1e-15


#: The places of label and prediction among the classes, by row; empty for numbers.
Places: TypeAlias = Sequence[tuple[int, int]]


class Scores(Protocol):
    """Takes rows, gives metrics."""

    rows: int

    def add(self, predictions: Sequence[Any], labels: Sequence[Any], probabilities: Sequence[Any] | None) -> Places:
        """Count some rows; the places of their labels and predictions. Raises DatasetInvalid that names the row."""

    def metrics(self) -> Mapping[str, float]:
        """The metrics by name."""


class ClassificationMetrics:
    """Of a classifier with these classes; without any, those that are met are its classes."""

    def __init__(self, classes: Sequence[Any]) -> None:
        self._is_open = not classes
        self._classes = list(classes)
        self._places = {plain_text(value): place for place, value in enumerate(classes)}
        self._counts: dict[tuple[int, int], int] = {}
        self._loss = 0.0
        self._losses = 0
        self.rows = 0

    def add(self, predictions: Sequence[Any], labels: Sequence[Any], probabilities: Sequence[Any] | None) -> Places:
        found = []
        for index, (prediction, label) in enumerate(zip(predictions, labels, strict=True)):
            self.rows += 1
            places = self._place(label), self._place(prediction)
            self._counts[places] = self._counts.get(places, 0) + 1
            found.append(places)
            if probabilities is not None:
                self._loss -= math.log(max(float(probabilities[index][places[0]]), _LEAST_PROBABILITY))
                self._losses += 1
        return found

    @property
    def order(self) -> Sequence[int]:
        """The places of the classes in their order: the model's own, else that of their texts."""
        places = range(len(self._classes))
        return sorted(places, key=lambda place: str(self._classes[place])) if self._is_open else places

    def metrics(self) -> Mapping[str, float]:
        size, order = len(self._classes), self.order
        confusion = [[float(self._counts.get((i, j), 0)) for j in order] for i in order]
        found = {"accuracy": sum(confusion[i][i] for i in range(size)) / self.rows, **macro_averages(confusion)}
        return {**found, "log-loss": self._loss / self._losses} if self._losses else found

    def _place(self, value: Any) -> int:
        label = plain_text(value)
        if label not in self._places:
            if not self._is_open:
                classes = ", ".join(map(str, self._classes[:20]))
                raise DatasetInvalid(f"row {self.rows}: {value!r} is no class of the model; its classes: {classes}")
            self._places[label] = len(self._classes)
            self._classes.append(value)
        return self._places[label]


class RegressionMetrics:
    """Of a model that answers numbers."""

    def __init__(self) -> None:
        self.rows = 0
        self._absolute = self._squared = self._sum = self._squares = 0.0

    def add(self, predictions: Sequence[Any], labels: Sequence[Any], probabilities: Sequence[Any] | None) -> Places:
        for prediction, label in zip(predictions, labels, strict=True):
            self.rows += 1
            right = _number(label, self.rows)
            error = float(prediction) - right
            self._absolute += abs(error)
            self._squared += error * error
            self._sum += right
            self._squares += right * right
        return ()

    def metrics(self) -> Mapping[str, float]:
        spread = self._squares - self._sum**2 / self.rows
        # Where all answers are the same there is nothing to explain: as scikit-learn, 1 for no error at all, else 0.
        r2 = 1 - self._squared / spread if spread > 0 else float(self._squared == 0)
        return {"mse": self._squared / self.rows, "mae": self._absolute / self.rows, "r2": r2}


def metrics_for(names: Sequence[str], classes: Sequence[Any], *, answers_numbers: bool) -> Scores:
    """Choose by what is asked for. Raises DatasetInvalid when the model cannot be measured so."""
    known = (*CLASSIFICATION, *REGRESSION, *GROUP_METRICS)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DatasetInvalid(f"{unknown[0]} is no measure; known are {', '.join(known)}")
    of_numbers = [name for name in names if name in REGRESSION]
    if of_numbers and len(of_numbers) < len(names):
        raise DatasetInvalid(f"{', '.join(names)} do not go together: a model has classes or answers numbers")
    if of_numbers and classes:
        raise DatasetInvalid(f"{of_numbers[0]} is for numbers, and the model has classes; write {_or(CLASSIFICATION)}")
    if not of_numbers and answers_numbers and not classes:
        raise DatasetInvalid(
            f"{names[0]} is for classes, and the model answers numbers; write {_or(REGRESSION)}",
            hint="Of a classifier, list the classes in model.yaml: as categories of the first of output_features.",
        )
    build: Callable[[], Scores] = RegressionMetrics if of_numbers else lambda: ClassificationMetrics(classes)
    return build()


def _or(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def plain_text(value: Any) -> str:
    """One text for what people take for the same label: 1, 1.0 and "1"; true and "True"."""
    text = str(value).strip()
    try:
        number = float(text)
    except ValueError:
        return text.lower() if text.lower() in ("true", "false") else text
    return str(int(number)) if number.is_integer() else str(number)


def _number(value: Any, row: int) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DatasetInvalid(f"row {row}: the answer {value!r} is no number") from None
