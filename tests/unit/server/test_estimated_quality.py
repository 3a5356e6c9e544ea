"""Quality without labels: what is estimated is what labels would have shown, and drifted inputs take the trust away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, f1_score
from sklearn.naive_bayes import GaussianNB

from model_server.calibration_fit import calibration_error, fit
from model_server.domain.calibration import Calibration, CalibrationTable, confidences
from model_server.domain.features import Feature, Metadata, ReferenceFeature
from model_server.domain.model import Identity, LoadedModel
from model_server.domain.tensors import Tensor
from model_server.errors import DatasetInvalid, ReferenceProfileMismatch, ReferenceProfileMissing, SettingsInvalid
from model_server.inputs.columns import Columns
from model_server.monitoring.estimated_quality import LENGTH
from model_server.monitoring.estimates import Sums, estimated_accuracy, estimated_binary
from model_server.monitoring.monitor import Monitor
from model_server.settings import read_settings
from model_server.telemetry import Telemetry
from modeldeploy.package.describing import histogram

DIGITS = load_digits()
#: Pixels that vary enough to be looked at.
PIXELS = (19, 20, 21, 28, 36, 43)
FEATURES = tuple(Feature(name=f"p{place}") for place in PIXELS)
CALIBRATION = Calibration(
    rows=1000,
    classes=(0, 1),
    tables=tuple(CalibrationTable(prediction=label, probabilities=(0.5,), shares=(0.8,)) for label in (0, 1)),
    error=0.01,
    raw_error=0.1,
)

OF_OTHER_CLASSES = Metadata(
    reference_profile={"p19": ReferenceFeature(edges=(0, 1), counts=(5,))}, calibration=CALIBRATION
)


@dataclass(frozen=True)
class Case:
    """A model of handwritten digits, its labelled reference, and rows that come later."""

    model: Any
    calibration: Calibration
    reference: Any
    rows: Any
    labels: Any

    @property
    def right(self) -> Any:
        """How probable each later answer is right."""
        said, probabilities = self.model.predict(self.rows), self.model.predict_proba(self.rows)
        classes = tuple(self.model.classes_.tolist())
        return self.calibration.right(said, confidences(said, probabilities, classes))


def case(model: Any, seed: int, *, binary: bool) -> Case:
    labels = DIGITS.target % 2 if binary else DIGITS.target
    order = np.random.default_rng(seed).permutation(len(labels))
    train, reference, later = order[:500], order[500:1100], order[1100:]
    pixels = DIGITS.data
    model.fit(pixels[train], labels[train])
    classes = tuple(model.classes_.tolist())
    said, probabilities = model.predict(pixels[reference]), model.predict_proba(pixels[reference])
    is_right = (said == labels[reference]).astype(float)
    calibration = fit(said, confidences(said, probabilities, classes), is_right, classes)
    return Case(model, calibration, pixels[reference], pixels[later], labels[later])


@pytest.fixture(scope="module")
def forest() -> Case:
    return case(RandomForestClassifier(30, random_state=0), 0, binary=True)


def serving(
    *, classes: Any = (0, 1), output: str = "probabilities", datatype: str = "INT64", metadata: Metadata | None = None
) -> tuple[Monitor, Telemetry]:
    telemetry = Telemetry()
    telemetry.loaded(Identity(model="m", version="1", revision="r"))
    loaded = LoadedModel(
        identity=telemetry.identity,
        metadata=metadata or Metadata(),
        adapter=Columns(FEATURES),
        model=SimpleNamespace(classes=classes, probability_output=output),
        outputs=(Tensor("predict", datatype, (-1,)),),
    )
    settings = read_settings({"MODEL_SERVER_STORAGE_URI": "file:///m", "MODEL_SERVER_ESTIMATED_QUALITY": "true"})
    return Monitor(loaded, settings, telemetry), telemetry


def package(reference: Any, calibration: Calibration | None) -> Metadata:
    profile = {
        feature.name: ReferenceFeature(**histogram(reference[:, place].tolist()))
        for feature, place in zip(FEATURES, PIXELS, strict=True)
    }
    return Metadata(reference_profile=profile, calibration=calibration)


def predict(monitor: Monitor, found: Case, rows: Any) -> None:
    outputs = {"predict": found.model.predict(rows), "probabilities": found.model.predict_proba(rows)}
    inputs = {feature.name: rows[:, place] for feature, place in zip(FEATURES, PIXELS, strict=True)}
    monitor.predicted(b"1", inputs, outputs)
    asyncio.run(monitor.tick())


def metrics(telemetry: Telemetry) -> dict[tuple[str, str], float]:
    """The values of the estimate by name and metric or reason."""
    return {
        (sample.name.removeprefix("modeldeploy_"), sample.labels.get("metric") or sample.labels.get("reason", "")): (
            sample.value
        )
        for family in text_string_to_metric_families(telemetry.render().decode())
        for sample in family.samples
        if "estimate" in sample.name
    }


def test_labels_that_nobody_sent_would_have_shown_what_was_estimated(forest: Case) -> None:
    monitor, telemetry = serving(metadata=package(forest.reference, forest.calibration))
    predict(monitor, forest, forest.rows)
    found, said = metrics(telemetry), forest.model.predict(forest.rows)
    assert found["estimate_trusted", ""] == 1
    assert found["estimated_rows", ""] == len(forest.rows)
    for metric, measure in (("accuracy", accuracy_score), ("f1", f1_score)):
        truth = measure(forest.labels, said)
        assert found["estimated_quality_low", metric] <= truth <= found["estimated_quality_high", metric]
        assert abs(found["estimated_quality", metric] - truth) < 0.03


@pytest.mark.parametrize(
    ("model", "binary"),
    [
        pytest.param(lambda: GaussianNB(), True, id="a badly calibrated model of two classes"),
        pytest.param(lambda: GaussianNB(), False, id="a badly calibrated model of ten"),
    ],
)
def test_the_interval_holds_in_about_as_many_cases_as_it_says(model: Any, binary: bool) -> None:
    held = []
    for seed in range(10):
        found = case(model(), seed, binary=binary)
        said, right = found.model.predict(found.rows), found.right
        if binary:
            is_positive = said == 1
            sums = Sums.of(right[is_positive]), Sums.of(right[~is_positive])
            accuracy = estimated_binary(*sums, found.calibration)["accuracy"]
        else:
            accuracy = estimated_accuracy(Sums.of(right), found.calibration)["accuracy"]
        truth = accuracy_score(found.labels, said)
        held.append(accuracy.low <= truth <= accuracy.high)
        raw = found.model.predict_proba(found.rows).max(axis=1).mean()
        assert not accuracy.low <= raw <= accuracy.high
    assert np.mean(held) >= 0.8


def test_inputs_that_drifted_take_the_trust_away_until_they_are_back(forest: Case) -> None:
    monitor, telemetry = serving(metadata=package(forest.reference, forest.calibration))
    predict(monitor, forest, forest.rows)
    brighter = np.minimum(forest.rows * 2, 16)
    predict(monitor, forest, brighter)
    found = metrics(telemetry)
    assert (found["estimate_trusted", ""], found["estimate_problem", "InputsDrifted"]) == (0, 1)
    assert found["estimate_problem", "NotCalibrated"] == 0
    for _ in range(40):
        predict(monitor, forest, forest.rows)
    assert metrics(telemetry)["estimate_trusted", ""] == 1


def test_a_package_without_labels_is_not_calibrated_and_has_no_estimate(forest: Case) -> None:
    monitor, telemetry = serving(metadata=package(forest.reference, None))
    predict(monitor, forest, forest.rows)
    found = metrics(telemetry)
    assert (found["estimate_trusted", ""], found["estimate_problem", "NotCalibrated"]) == (0, 1)
    assert not [name for name, _ in found if name.startswith("estimated_quality")]


def test_few_rows_say_nothing(forest: Case) -> None:
    monitor, telemetry = serving(metadata=package(forest.reference, forest.calibration))
    predict(monitor, forest, forest.rows[:199])
    assert metrics(telemetry)["estimate_problem", "FewRows"] == 1
    assert ("estimated_quality", "accuracy") not in metrics(telemetry)
    predict(monitor, forest, forest.rows[:1])
    assert metrics(telemetry)["estimate_trusted", ""] == 1


def test_what_is_long_ago_is_forgotten(forest: Case) -> None:
    monitor, telemetry = serving(metadata=package(forest.reference, forest.calibration))
    for _ in range(2 * LENGTH // 100):
        predict(monitor, forest, forest.rows[:100])
    assert LENGTH / 2 <= metrics(telemetry)["estimated_rows", ""] <= LENGTH


def test_counts_of_known_probabilities_are_the_expected_confusion_matrix() -> None:
    positive, negative = Sums.of(np.full(50, 0.8)), Sums.of(np.full(50, 0.6))
    found = {name: one.value for name, one in estimated_binary(positive, negative, CALIBRATION).items()}
    assert found == pytest.approx({"accuracy": 0.7, "precision": 0.8, "recall": 40 / 60, "f1": 80 / 110})


@pytest.mark.parametrize(
    ("given", "error", "why"),
    [
        pytest.param(
            {"classes": (), "output": "", "datatype": "FP64"},
            SettingsInvalid,
            "the model answers numbers",
            id="numbers",
        ),
        pytest.param({"output": ""}, SettingsInvalid, "the model gives none", id="a classifier without probabilities"),
        pytest.param({"classes": ()}, SettingsInvalid, "of which class a probability is", id="unknown classes"),
        pytest.param({}, ReferenceProfileMissing, "has no reference_profile", id="no reference"),
        pytest.param(
            {"classes": ("a", "b"), "metadata": OF_OTHER_CLASSES},
            ReferenceProfileMismatch,
            "of the classes 0, 1, and the model has a, b",
            id="the calibration of another model",
        ),
    ],
)
def test_what_cannot_be_estimated_is_said_in_a_sentence(given: Any, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        serving(**given)


def test_a_reference_of_first_rows_is_no_reference_of_a_calibration() -> None:
    with pytest.raises(SettingsInvalid, match="do not go together"):
        read_settings(
            {
                "MODEL_SERVER_STORAGE_URI": "file:///m",
                "MODEL_SERVER_ESTIMATED_QUALITY": "true",
                "MODEL_SERVER_DRIFT_REFERENCE": "1000",
            }
        )


class TestFit:
    """The tables of a calibration."""

    @pytest.mark.parametrize(
        "truth",
        [
            pytest.param(lambda p: 0.2 + 0.5 * p**2, id="a curve that isotonic regression follows"),
            pytest.param(lambda p: 1 / (1 + np.exp(2 - 3 * p)), id="a smooth one"),
        ],
    )
    def test_it_finds_the_curve_that_labels_follow(self, truth: Any) -> None:
        random = np.random.default_rng(1)
        probabilities = random.random(6000)
        is_right = (random.random(6000) < truth(probabilities)).astype(float)
        found = fit(random.integers(0, 3, 6000), probabilities, is_right, [0, 1, 2])
        places = np.array([0.2, 0.5, 0.8])
        assert np.abs(found.tables[0].shares_at(places) - truth(places)).max() < 0.06
        assert found.error < 0.04 < 0.1 < found.raw_error
        assert found.dispersion >= 1

    def test_each_of_two_classes_has_its_own(self) -> None:
        answers = np.arange(1000) % 2
        is_right = np.where(answers == 1, np.arange(1000) % 10 < 7, 1).astype(float)
        found = fit(answers, np.linspace(0.5, 1, 1000), is_right, [0, 1])
        right = found.right(answers, np.full(1000, 0.75))
        assert right[answers == 0].min() > 0.99
        assert right[answers == 1].mean() == pytest.approx(0.6, abs=0.1)

    def test_a_class_that_is_rarely_predicted_has_the_mean_of_its_rows(self) -> None:
        answers = (np.arange(400) < 8).astype(int)
        found = fit(answers, np.linspace(0.5, 1, 400), np.ones(400), [0, 1])
        assert found.tables[1].shares == (0.9,)

    def test_no_row_was_wrong_and_yet_one_may_be(self) -> None:
        found = fit(np.zeros(300), np.linspace(0.5, 1, 300), np.ones(300), ["a", "b", "c"])
        assert max(found.tables[0].shares) == pytest.approx(1 - 1 / 302)

    def test_a_model_that_is_surest_where_it_is_wrong_is_worth_its_mean(self) -> None:
        probabilities = np.linspace(0, 1, 1000)
        is_right = (np.random.default_rng(0).random(1000) > probabilities).astype(float)
        found = fit(np.zeros(1000), probabilities, is_right, [0, 1, 2])
        assert np.ptp(found.tables[0].shares) < 0.1

    @pytest.mark.parametrize(
        ("probabilities", "why"),
        [
            pytest.param(np.linspace(0, 1, 199), "has 199 rows, and a calibration needs 200", id="few rows"),
            pytest.param(np.full(300, 0.5), "gives every row the probability 0.5", id="one probability"),
        ],
    )
    def test_what_says_nothing_is_refused(self, probabilities: Any, why: str) -> None:
        with pytest.raises(DatasetInvalid, match=why):
            fit(np.zeros(len(probabilities)), probabilities, np.arange(len(probabilities)) % 2.0, [0, 1])

    def test_the_error_is_the_distance_from_the_share_of_right_rows(self) -> None:
        assert calibration_error(np.full(100, 0.7), np.arange(100) % 2.0) == pytest.approx(0.2)
