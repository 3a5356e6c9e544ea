"""`POST /feedback`: what was right afterwards, and how good the model therefore is.

A label is joined to its prediction by request id within a bounded window, or sent together with the
prediction. Sums are kept, not answers: counts by class, squared and absolute errors, log-loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from model_server.domain.model import LoadedModel
from model_server.errors import InvalidInput, Problem, UnknownPrediction
from model_server.monitoring.slices import Slices
from model_server.monitoring.window import Answered, AnswerWindow
from model_server.shared_values import SharedValues
from model_server.telemetry import LABELS, Telemetry

MOST_CLASSES = 16
_FIELDS = ("id", "prediction", "label", "conversion", "groups")


class _Places:
    """Where the sums of feedback lie among the shared values."""

    def __init__(self, values: SharedValues) -> None:
        self.confusion = values.declare(MOST_CLASSES**2).first
        self.count, self.correct, self.absolute, self.squared = (values.declare().first for _ in range(4))
        self.loss, self.losses, self.loss_squares = (values.declare().first for _ in range(3))
        self.converted, self.not_converted = (values.declare().first for _ in range(2))


class Feedback(Collector):
    """Joins labels to predictions and shows the quality that follows."""

    def __init__(self, loaded: LoadedModel, telemetry: Telemetry, slices: Slices | None = None) -> None:
        self._telemetry = telemetry
        self._slices = slices or Slices((), loaded, telemetry)
        self._values = telemetry.values
        self._places = _Places(telemetry.values)
        self._classes = loaded.class_labels
        self._model = loaded.model
        self._is_number = loaded.answers_numbers
        self._window = AnswerWindow(loaded.model.probability_output)
        #: Keeps a prediction until its label comes, or newer ones push it out; not when it is very large.
        self.remember = self._window.remember
        telemetry.registry.register(self)

    def receive(self, document: Mapping[str, Any]) -> None:
        """Count one feedback. Raises InvalidInput, or UnknownPrediction when its id is not in the window."""
        _check_fields(document)
        sent = self._slices.check(document["groups"]) if "groups" in document else {}
        if "conversion" in document:
            places = self._places
            self._values.own[places.converted if document["conversion"] else places.not_converted] += 1
        if "label" not in document:
            return
        if "prediction" in document:
            self._check(document["prediction"], document["label"])
            self._score(document["prediction"], document["label"], None)
            self._slices.labelled([(document["prediction"], document["label"])], {}, sent)
            return
        identifier = document["id"].encode()
        answer = self._window.find(identifier)
        if answer is None:
            raise UnknownPrediction(
                f"no prediction with id {document['id']!r} is remembered here",
                hint="It is too old or too large, was labelled already, or another replica answered it:"
                " send prediction and label.",
            )
        self._join(answer, document["label"], sent)
        # A label counts once.
        self._window.forget(identifier)

    def _join(self, answer: Answered, label: Any, sent: Mapping[str, str]) -> None:
        array, probabilities, _, groups = answer
        predictions = array.tolist()
        labels = label if isinstance(label, list) else [label]
        if len(labels) != len(predictions):
            raise InvalidInput.at("label", f"expected {len(predictions)} labels, one a row, got {len(labels)}")
        rows = [None] * len(labels) if probabilities is None else probabilities.tolist()
        # All are looked at before one counts: labels that are sent again, corrected, would count twice.
        for prediction, right in zip(predictions, labels, strict=True):
            self._check(prediction, right)
        for prediction, right, row in zip(predictions, labels, rows, strict=True):
            self._score(prediction, right, row)
        self._slices.labelled(list(zip(predictions, labels, strict=True)), groups, sent)

    def _score(self, prediction: Any, label: Any, probabilities: list[float] | None) -> None:
        own, places = self._values.own, self._places
        if self._is_number:
            error = float(prediction) - float(label)
            own[places.absolute] += abs(error)
            own[places.squared] += error * error
        else:
            predicted, right = self._place(prediction), self._place(label)
            own[places.correct] += prediction == label
            if self._classes and max(predicted, right) < MOST_CLASSES:
                own[places.confusion + right * MOST_CLASSES + predicted] += 1
            if probabilities is not None and self._classes == self._model.classes:
                loss = -math.log(max(probabilities[right], 1e-15))
                own[places.loss] += loss
                own[places.loss_squares] += loss * loss
                own[places.losses] += 1
        own[places.count] += 1

    def _check(self, prediction: Any, label: Any) -> None:
        """Raise InvalidInput for what cannot be scored."""
        for value, field in ((prediction, "prediction"), (label, "label")):
            if self._is_number:
                _number(value, field)
            elif self._classes and value not in self._classes:
                classes = ", ".join(map(str, self._classes[:20]))
                raise InvalidInput.at(field, f"expected one of {classes}, got {value!r}")
        if self._is_number:
            error = float(prediction) - float(label)
            if not math.isfinite(error * error):
                raise InvalidInput.at("label", f"{label!r} is too far from the prediction, {prediction!r}")

    def _place(self, label: Any) -> int:
        return self._classes.index(label) if self._classes else 0

    def collect(self) -> Iterable[Metric]:
        values, places, labels = self._values, self._places, self._telemetry.identity.labels
        count = values.sum(places.count)
        feedback = CounterMetricFamily(
            "modeldeploy_feedback", "Labels that were joined to a prediction.", labels=(*LABELS, "outcome")
        )
        if self._is_number:
            feedback.add_metric((*labels, "scored"), count)
        else:
            correct = values.sum(places.correct)
            feedback.add_metric((*labels, "correct"), correct)
            feedback.add_metric((*labels, "wrong"), count - correct)
        yield feedback
        conversions = CounterMetricFamily(
            "modeldeploy_conversions", "Conversions that were reported.", labels=(*LABELS, "converted")
        )
        conversions.add_metric((*labels, "true"), values.sum(places.converted))
        conversions.add_metric((*labels, "false"), values.sum(places.not_converted))
        yield conversions
        yield from self._judged(labels)
        quality = GaugeMetricFamily("modeldeploy_quality", "Quality by the labels so far.", labels=(*LABELS, "metric"))
        for name, value in self._quality(count).items():
            quality.add_metric((*labels, name), value)
        yield quality

    def _judged(self, labels: tuple[str, str, str]) -> Iterable[Metric]:
        """Counters behind precision, recall, f1 and log-loss: only counters say what came between two scrapes."""
        values, places = self._values, self._places
        rated = CounterMetricFamily(
            "modeldeploy_rated",
            "Labelled answers that count for a metric, right or wrong.",
            labels=(*LABELS, "metric", "outcome"),
        )
        if 0 < len(self._classes) <= MOST_CLASSES:
            for name, (right, wrong) in rated_answers(self._confusion()).items():
                rated.add_metric((*labels, name, "right"), right)
                rated.add_metric((*labels, name, "wrong"), wrong)
        yield rated
        loss = SummaryMetricFamily("modeldeploy_log_loss", "Loss of the labelled answers, in nats.", labels=LABELS)
        loss.add_metric(labels, int(values.sum(places.losses)), values.sum(places.loss))
        yield loss
        squares = CounterMetricFamily("modeldeploy_log_loss_squares", "The sum of their squares.", labels=LABELS)
        squares.add_metric(labels, values.sum(places.loss_squares))
        yield squares

    def _confusion(self) -> list[list[float]]:
        first, size = self._places.confusion, len(self._classes)
        return [[self._values.sum(first + i * MOST_CLASSES + j) for j in range(size)] for i in range(size)]

    def _quality(self, count: float) -> dict[str, float]:
        values, places = self._values, self._places
        if not count:
            return {}
        if self._is_number:
            return {"mae": values.sum(places.absolute) / count, "rmse": math.sqrt(values.sum(places.squared) / count)}
        found = {"accuracy": values.sum(places.correct) / count}
        if 0 < len(self._classes) <= MOST_CLASSES:
            found |= macro_averages(self._confusion())
        if values.sum(places.losses):
            found["log_loss"] = values.sum(places.loss) / values.sum(places.losses)
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
