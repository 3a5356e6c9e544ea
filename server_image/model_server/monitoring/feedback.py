"""`POST /feedback`: what was right afterwards, and how good the model therefore is.

A label is joined to its prediction by request id within a bounded window, or sent together with the
prediction. Sums are kept, not answers: counts by class, squared and absolute errors, log-loss.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from model_server.errors import InvalidInput, Problem, UnknownPrediction
from model_server.lifecycle import Loaded
from model_server.monitoring.outputs import classes_of
from model_server.telemetry import FEEDBACK, LABELS, Telemetry
from model_server.tensors import Outputs

WINDOW = 10_000
MOST_CLASSES = 16
_CONFUSION = FEEDBACK.first
_COUNT, _CORRECT, _ABSOLUTE, _SQUARED, _LOSS, _LOSSES, _LOSS_SQUARES, _CONVERTED, _NOT_CONVERTED = range(
    FEEDBACK.first + MOST_CLASSES**2, FEEDBACK.end
)
_FIELDS = ("id", "prediction", "label", "conversion")


class Feedback(Collector):
    """Joins labels to predictions and shows the quality that follows."""

    def __init__(self, loaded: Loaded, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._classes = classes_of(loaded)
        self._model = loaded.model
        self._is_number = bool(loaded.outputs) and loaded.outputs[0].datatype.startswith("FP")
        self._window: OrderedDict[bytes, Outputs] = OrderedDict()
        telemetry.registry.register(self)

    def remember(self, identifier: bytes, outputs: Outputs) -> None:
        """Keep a prediction until its label comes, or newer ones push it out."""
        window = self._window
        window[identifier] = outputs
        if len(window) > WINDOW:
            window.popitem(last=False)

    def receive(self, document: Mapping[str, Any]) -> None:
        """Count one feedback. Raises InvalidInput, or UnknownPrediction when its id is not in the window."""
        _check_fields(document)
        if "conversion" in document:
            self._telemetry.row[_CONVERTED if document["conversion"] else _NOT_CONVERTED] += 1
        if "label" not in document:
            return
        if "prediction" in document:
            self._check(document["prediction"], document["label"])
            self._score(document["prediction"], document["label"], None)
            return
        identifier = document["id"].encode()
        outputs = self._window.get(identifier)
        if outputs is None:
            raise UnknownPrediction(
                f"no prediction with id {document['id']!r} is remembered here",
                hint="It is too old, was labelled already, or another replica answered it: send prediction and label.",
            )
        self._join(outputs, document["label"])
        # A label counts once.
        del self._window[identifier]

    def _join(self, outputs: Outputs, label: Any) -> None:
        predictions = next(iter(outputs.values())).tolist()
        labels = label if isinstance(label, list) else [label]
        if len(labels) != len(predictions):
            raise InvalidInput.at("label", f"expected {len(predictions)} labels, one a row, got {len(labels)}")
        probabilities = outputs.get(self._model.probabilities)
        rows = [None] * len(labels) if probabilities is None else probabilities.tolist()
        # All are looked at before one counts: labels that are sent again, corrected, would count twice.
        for prediction, right in zip(predictions, labels, strict=True):
            self._check(prediction, right)
        for prediction, right, row in zip(predictions, labels, rows, strict=True):
            self._score(prediction, right, row)

    def _score(self, prediction: Any, label: Any, probabilities: list[float] | None) -> None:
        row = self._telemetry.row
        if self._is_number and not self._classes:
            error = float(prediction) - float(label)
            row[_ABSOLUTE] += abs(error)
            row[_SQUARED] += error * error
        else:
            places = [self._place(prediction), self._place(label)]
            row[_CORRECT] += prediction == label
            if self._classes and max(places) < MOST_CLASSES:
                row[_CONFUSION + places[1] * MOST_CLASSES + places[0]] += 1
            if probabilities is not None and self._classes == self._model.classes:
                loss = -math.log(max(probabilities[places[1]], 1e-15))
                row[_LOSS] += loss
                row[_LOSS_SQUARES] += loss * loss
                row[_LOSSES] += 1
        row[_COUNT] += 1

    def _check(self, prediction: Any, label: Any) -> None:
        """Raise InvalidInput for what cannot be scored."""
        for value, field in ((prediction, "prediction"), (label, "label")):
            if self._is_number and not self._classes:
                _number(value, field)
            elif self._classes and value not in self._classes:
                known = ", ".join(str(known) for known in self._classes[:20])
                raise InvalidInput.at(field, f"expected one of {known}, got {value!r}")
        if self._is_number and not self._classes:
            error = float(prediction) - float(label)
            if not math.isfinite(error * error):
                raise InvalidInput.at("label", f"{label!r} is too far from the prediction, {prediction!r}")

    def _place(self, label: Any) -> int:
        return self._classes.index(label) if self._classes else 0

    def collect(self) -> Iterable[Metric]:
        cells, labels = self._telemetry.cells, self._telemetry.identity.labels
        count = cells.sum(_COUNT)
        feedback = CounterMetricFamily(
            "modeldeploy_feedback", "Labels that were joined to a prediction.", labels=(*LABELS, "outcome")
        )
        if self._is_number and not self._classes:
            feedback.add_metric((*labels, "scored"), count)
        else:
            correct = cells.sum(_CORRECT)
            feedback.add_metric((*labels, "correct"), correct)
            feedback.add_metric((*labels, "wrong"), count - correct)
        yield feedback
        conversions = CounterMetricFamily("modeldeploy_conversions", "Conversions told.", labels=(*LABELS, "converted"))
        conversions.add_metric((*labels, "true"), cells.sum(_CONVERTED))
        conversions.add_metric((*labels, "false"), cells.sum(_NOT_CONVERTED))
        yield conversions
        yield from self._judged(labels)
        quality = GaugeMetricFamily("modeldeploy_quality", "Quality by the labels so far.", labels=(*LABELS, "metric"))
        for name, value in self._quality(count).items():
            quality.add_metric((*labels, name), value)
        yield quality

    def _judged(self, labels: tuple[str, str, str]) -> Iterable[Metric]:
        """Counters behind precision, recall, f1 and log-loss: only counters say what came between two scrapes."""
        cells = self._telemetry.cells
        rated = CounterMetricFamily(
            "modeldeploy_rated", "Answers that a measure counts, right or wrong.", labels=(*LABELS, "metric", "outcome")
        )
        if 0 < len(self._classes) <= MOST_CLASSES:
            for name, (right, wrong) in rated_answers(self._confusion()).items():
                rated.add_metric((*labels, name, "right"), right)
                rated.add_metric((*labels, name, "wrong"), wrong)
        yield rated
        loss = SummaryMetricFamily("modeldeploy_log_loss", "Loss of the labelled answers, in nats.", labels=LABELS)
        loss.add_metric(labels, int(cells.sum(_LOSSES)), cells.sum(_LOSS))
        yield loss
        squares = CounterMetricFamily("modeldeploy_log_loss_squares", "The sum of their squares.", labels=LABELS)
        squares.add_metric(labels, cells.sum(_LOSS_SQUARES))
        yield squares

    def _confusion(self) -> list[list[float]]:
        cells, size = self._telemetry.cells, len(self._classes)
        return [[cells.sum(_CONFUSION + i * MOST_CLASSES + j) for j in range(size)] for i in range(size)]

    def _quality(self, count: float) -> dict[str, float]:
        cells = self._telemetry.cells
        if not count:
            return {}
        if self._is_number and not self._classes:
            return {"mae": cells.sum(_ABSOLUTE) / count, "rmse": math.sqrt(cells.sum(_SQUARED) / count)}
        found = {"accuracy": cells.sum(_CORRECT) / count}
        if 0 < len(self._classes) <= MOST_CLASSES:
            found |= macro_averages(self._confusion())
        if cells.sum(_LOSSES):
            found["log_loss"] = cells.sum(_LOSS) / cells.sum(_LOSSES)
        return found


def rated_answers(confusion: list[list[float]]) -> dict[str, tuple[float, float]]:
    """The right and wrong answers that precision, recall and F1 are made of; `confusion[label][prediction]` are counts.

    Of two classes the second is the positive one. More are taken together (micro averages): a count for each class
    would need labels by the thousand before it says anything. F1 is 2 right / (2 right + wrong).
    """
    size = len(confusion)
    chosen = [1] if size == 2 else range(size)
    right = sum(confusion[i][i] for i in chosen)
    predicted = sum(row[i] for i in chosen for row in confusion)
    labelled = sum(sum(confusion[i]) for i in chosen)
    return {
        "precision": (right, predicted - right),
        "recall": (right, labelled - right),
        "f1": (right, predicted + labelled - 2 * right),
    }


def macro_averages(confusion: list[list[float]]) -> dict[str, float]:
    """Precision, recall and F1, averaged over the classes seen; `confusion[label][prediction]` are counts.

    Two classes are averaged over the second only, the positive one, as scikit-learn's `binary` does.
    """
    size = len(confusion)
    chosen = [1] if size == 2 else [i for i in range(size) if sum(confusion[i]) or sum(row[i] for row in confusion)]
    precision = [_ratio(confusion[i][i], sum(row[i] for row in confusion)) for i in chosen]
    recall = [_ratio(confusion[i][i], sum(confusion[i])) for i in chosen]
    f1 = [_ratio(2 * p * r, p + r) for p, r in zip(precision, recall, strict=True)]
    return {
        name: sum(values) / len(values)
        for name, values in (("precision", precision), ("recall", recall), ("f1", f1))
        if values
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _number(value: Any, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput.at(field, f"expected a number, got {value!r}")
    return float(value)


def _check_fields(document: Mapping[str, Any]) -> None:
    problems = [
        Problem(name, f"is not a field; known are {', '.join(_FIELDS)}") for name in document if name not in _FIELDS
    ]
    if "label" not in document and "conversion" not in document:
        problems.append(Problem("label", "is missing: send label or conversion"))
    if "label" in document and "prediction" not in document and not isinstance(document.get("id"), str):
        problems.append(Problem("id", "expected the x-request-id of the prediction as a string, or a prediction"))
    if "conversion" in document and not isinstance(document["conversion"], bool):
        problems.append(Problem("conversion", "expected true or false"))
    if problems:
        raise InvalidInput(problems)
