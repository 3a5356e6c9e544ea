"""The measures of an evaluation are scikit-learn's, and what cannot be measured is said."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from model_server.errors import DatasetInvalid
from model_server.offline_metrics import ClassificationMetrics, RegressionMetrics, metrics_for

RNG = np.random.default_rng(7)


def test_two_classes_are_measured_as_scikit_learn_does() -> None:
    labels, predictions = RNG.integers(0, 2, 300), RNG.integers(0, 2, 300)
    probabilities = RNG.dirichlet([2, 2], 300)
    scores = ClassificationMetrics([0, 1])
    for part in range(0, 300, 100):
        rows = slice(part, part + 100)
        scores.add(predictions[rows].tolist(), labels[rows].tolist(), probabilities[rows].tolist())
    assert scores.rows == 300
    assert scores.metrics() == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(labels, predictions),
            "precision": metrics.precision_score(labels, predictions),
            "recall": metrics.recall_score(labels, predictions),
            "f1": metrics.f1_score(labels, predictions),
            "log-loss": metrics.log_loss(labels, probabilities),
        }
    )


def test_more_classes_are_averaged() -> None:
    labels, predictions = RNG.choice(["a", "b", "c"], 200), RNG.choice(["a", "b", "c"], 200)
    scores = ClassificationMetrics(["a", "b", "c"])
    scores.add(predictions.tolist(), labels.tolist(), None)
    assert scores.metrics()["f1"] == pytest.approx(metrics.f1_score(labels, predictions, average="macro"))


def test_numbers_are_measured_as_scikit_learn_does() -> None:
    labels = RNG.normal(5, 2, 200)
    predictions = labels + RNG.normal(0, 1, 200)
    scores = RegressionMetrics()
    scores.add(predictions.tolist(), [str(label) for label in labels], None)
    assert scores.metrics() == pytest.approx(
        {
            "mse": metrics.mean_squared_error(labels, predictions),
            "mae": metrics.mean_absolute_error(labels, predictions),
            "r2": metrics.r2_score(labels, predictions),
        }
    )


@pytest.mark.parametrize("text", ["1", "1.0", 1.0, " 1 "])
def test_a_label_is_the_class_that_people_mean(text) -> None:
    scores = ClassificationMetrics([0, 1])
    scores.add([1], [text], None)
    assert scores.metrics()["accuracy"] == 1.0


def test_a_model_without_declared_classes_has_those_that_are_met() -> None:
    scores = ClassificationMetrics(())
    scores.add([1, 0, 1], ["1", "0", "0"], None)
    assert scores.metrics() == pytest.approx({"accuracy": 2 / 3, "precision": 0.5, "recall": 1.0, "f1": 2 / 3})


@pytest.mark.parametrize(
    ("measures", "classes", "answers_numbers", "why"),
    [
        pytest.param(["mse"], ("a", "b"), False, "mse is for numbers, and the model has classes", id="classes"),
        pytest.param(["f1"], (), True, "f1 is for classes, and the model answers numbers", id="numbers"),
        pytest.param(["f1", "mae"], (), True, "f1, mae do not go together", id="both"),
        pytest.param(["auc"], (0, 1), False, "auc is no measure; known are accuracy", id="an unknown one"),
    ],
)
def test_what_cannot_be_measured_is_said(measures, classes, answers_numbers, why) -> None:
    with pytest.raises(DatasetInvalid, match=why):
        metrics_for(measures, classes, answers_numbers=answers_numbers)


def test_a_label_that_is_no_class_is_named() -> None:
    with pytest.raises(DatasetInvalid, match="row 2: 'c' is no class of the model; its classes: a, b"):
        ClassificationMetrics(["a", "b"]).add(["a", "a"], ["b", "c"], None)


def test_an_answer_that_is_no_number_is_named() -> None:
    with pytest.raises(DatasetInvalid, match="row 1: the answer 'many' is no number"):
        RegressionMetrics().add([1.0], ["many"], None)
