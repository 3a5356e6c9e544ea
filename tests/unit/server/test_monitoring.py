"""Drift, quality and output counts, against known answers and scikit-learn's."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from sklearn.metrics import precision_recall_fscore_support

from model_server.domain.features import Feature, Metadata, ReferenceFeature
from model_server.domain.model import Identity, LoadedModel
from model_server.domain.tensors import Tensor
from model_server.errors import InvalidInput, SettingsInvalid
from model_server.inputs.columns import Columns
from model_server.monitoring.drift import Bins, Drift, find_reference, learn
from model_server.monitoring.feedback import Feedback, macro_averages
from model_server.monitoring.monitor import Monitor
from model_server.monitoring.statistics import ks, psi
from model_server.settings import read_settings
from model_server.shared_values import SharedValues
from model_server.telemetry import Telemetry

COUNTS = st.lists(st.integers(1, 1000), min_size=4, max_size=4)


@given(COUNTS, COUNTS)
def test_psi_is_a_symmetric_distance(first, second):
    assert psi(first, first) == pytest.approx(0)
    assert psi(first, second) == pytest.approx(psi(second, first))
    assert psi(first, second) >= 0


def test_psi_of_a_known_table():
    # (0.6 - 0.5) ln(0.6 / 0.5) + (0.4 - 0.5) ln(0.4 / 0.5)
    assert psi([50, 50], [60, 40]) == pytest.approx(0.1 * np.log(1.2) - 0.1 * np.log(0.8))
    assert np.isfinite(psi([50, 50], [100, 0]))


def test_ks_is_scipys_on_the_same_bins():
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 8, 500), rng.binomial(7, 0.4, 700)
    binned = [np.bincount(values, minlength=8) for values in (first, second)]
    assert ks(*binned) == pytest.approx(ks_2samp(first, second).statistic)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_quality_is_scikit_learns(pairs):
    labels, predictions = zip(*pairs, strict=True)
    confusion = [[0.0] * 3 for _ in range(3)]
    for label, prediction in pairs:
        confusion[label][prediction] += 1
    expected = precision_recall_fscore_support(labels, predictions, average="macro", zero_division=0.0)
    found = macro_averages(confusion)
    assert [found["precision"], found["recall"], found["f1"]] == pytest.approx(expected[:3])


def test_two_classes_are_judged_by_the_second():
    found = macro_averages([[50.0, 10.0], [5.0, 35.0]])
    assert (found["precision"], found["recall"]) == (pytest.approx(35 / 45), pytest.approx(35 / 40))


def test_values_are_sorted_into_the_reference_bins():
    bins = Bins(counts=(1, 1, 1), edges=(0, 1, 2, 3))
    values = np.array([-5, 0, 0.5, 1, 1.9, 2, 99, np.nan])
    assert bins.count(values).tolist() == [3, 2, 2]
    plans = Bins(counts=(1, 1, 0), categories=("free", "paid"))
    assert plans.count(np.array(["free", "gold", "free"], dtype=object)).tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("feature", "categories", "values"),
    [
        pytest.param(Feature(name="a", dtype="int64"), {"1": 60, "2": 40}, [1, 2], id="whole numbers"),
        pytest.param(Feature(name="a"), {"1": 60, "2.5": 40}, [1.0, 2.5], id="numbers"),
        pytest.param(Feature(name="a", dtype="bool"), {"true": 60, "false": 40}, [True, False], id="true and false"),
    ],
)
def test_categories_are_counted_as_what_their_feature_is(feature, categories, values):
    profile = {"a": ReferenceFeature(categories=categories)}
    reference = find_reference("package", Metadata(input_features=(feature,), reference_profile=profile))
    assert reference["a"].count(np.array(values * 2, dtype=feature.dtype)).tolist() == [2, 2, 0]


async def test_answers_that_cannot_be_counted_do_not_end_the_server(caplog):
    model = SimpleNamespace(classes=(0, 1), probability_output="")
    adapter = Columns([Feature(name="a")])
    loaded = LoadedModel(
        identity=Identity(model="m", version="", revision=""),
        metadata=Metadata(),
        adapter=adapter,
        model=model,
        outputs=(),
    )
    monitor = Monitor(loaded, read_settings({"MODEL_SERVER_STORAGE_URI": "file:///m"}), Telemetry())
    answers = np.empty(2, dtype=object)
    answers[:] = [np.zeros(2), np.zeros(3)]
    monitor.predicted(b"1", {"a": np.zeros(2)}, {"predict": answers})
    await monitor.tick()
    assert "some predictions are not counted" in caplog.text


def scores(telemetry):
    found = {}
    for family in telemetry.registry.collect():
        if family.name in ("modeldeploy_drift_score", "modeldeploy_drifted"):
            for sample in family.samples:
                key = (sample.labels["feature"], sample.labels.get("method", "drifted"))
                found[key] = sample.value
    return found


FEATURES = [Feature(name="a"), Feature(name="b")]


@pytest.mark.parametrize(
    ("shift", "drifted"), [pytest.param(0.0, 0, id="the same"), pytest.param(1.0, 1, id="shifted")]
)
def test_drift_against_the_packages_profile(shift, drifted):
    rng = np.random.default_rng(3)
    training = rng.normal(size=20_000)
    counts, edges = np.histogram(training, bins=10)
    profile = {"a": ReferenceFeature(edges=tuple(edges), counts=tuple(counts.tolist()))}
    reference = find_reference("package", Metadata(input_features=tuple(FEATURES), reference_profile=profile))
    telemetry = Telemetry()
    drift = Drift(FEATURES, reference, 0.2, telemetry)
    for _ in range(10):
        drift.update([{"m": rng.normal(size=(200, 2)) + np.array([shift, 50])}])
    found = scores(telemetry)
    assert found["a", "drifted"] == drifted
    assert (found["a", "psi"] > 0.2) is bool(drifted)
    assert ("b", "psi") not in found, "a feature without a profile has no score"


def test_drift_against_the_first_rows():
    rng = np.random.default_rng(4)
    telemetry = Telemetry()
    drift = Drift(FEATURES, find_reference("1000", Metadata()), 0.2, telemetry)
    for _ in range(5):
        drift.update([{"a": rng.normal(size=200), "b": rng.normal(size=200)}])
    assert scores(telemetry) == {}
    for _ in range(5):
        drift.update([{"a": rng.normal(size=200), "b": rng.normal(size=200) * 3}])
    found = scores(telemetry)
    assert (found["a", "drifted"], found["b", "drifted"]) == (0, 1)


def test_few_rows_are_no_evidence():
    telemetry = Telemetry()
    drift = Drift(FEATURES[:1], {"a": Bins(counts=(10, 10), edges=(0, 1, 2))}, 0.2, telemetry)
    drift.update([{"a": np.full(50, 1.5)}])
    assert scores(telemetry) == {}


def test_the_window_forgets():
    telemetry = Telemetry()
    drift = Drift(FEATURES[:1], {"a": Bins(counts=(10, 10), edges=(0, 1, 2))}, 0.2, telemetry)
    drift.update([{"a": np.full(20_000, 1.5)}])
    old = scores(telemetry)["a", "psi"]
    for _ in range(30):
        drift.update([{"a": np.tile([0.5, 1.5], 1000)}])
    assert scores(telemetry)["a", "psi"] < 0.1 < old


def test_a_feature_that_never_varies_has_no_bins():
    assert learn(np.ones(500)) is None
    assert learn(np.array(["x"] * 500, dtype=object)) is None


@pytest.mark.parametrize("setting", ["packag", "5", "-1"])
def test_an_unknown_reference_is_refused(setting):
    with pytest.raises(SettingsInvalid, match="drift reference"):
        find_reference(setting, Metadata())


def test_rows_of_all_workers_are_summed():
    memory = bytearray(SharedValues.size(2))
    workers = [Telemetry(memory, number) for number in range(2)]
    for worker in workers:
        worker.loaded(Identity(model="m", version="1", revision="r"))
        worker.begin()
        worker.end(200, 0.004)
    workers[0].batch(rows=3, seconds=0.1, queued=0.0)
    workers[0].decoded(0.002)
    workers[1].encoded(0.002)
    text = workers[1].render().decode()
    assert 'modeldeploy_requests_total{code="200",model="m",revision="r",version="1"} 2.0' in text
    assert 'modeldeploy_batch_rows_sum{model="m",revision="r",version="1"} 3.0' in text
    assert 'request_predict_seconds_count{model_name="m"} 1.0' in text
    assert 'request_preprocess_seconds_bucket{le="0.0025",model_name="m"} 1.0' in text
    assert 'request_postprocess_seconds_bucket{le="0.0025",model_name="m"} 1.0' in text
    assert 'model_infer_request_success_total{model="m",version="1"} 2.0' in text


def feedback_of(classes, datatype):
    telemetry = Telemetry()
    model = SimpleNamespace(classes=classes, probability_output="")
    outputs = (Tensor("predict", datatype, (-1,)),)
    about = {"identity": telemetry.identity, "metadata": Metadata(), "adapter": Columns([]), "model": model}
    return Feedback(LoadedModel(**about, outputs=outputs), telemetry), telemetry


def told(telemetry, name):
    found = (sample for family in telemetry.registry.collect() for sample in family.samples if sample.name == name)
    return [sample.value for sample in found]


def test_labels_count_all_or_not_at_all():
    feedback, telemetry = feedback_of(("ja", "nein"), "BYTES")
    feedback.remember(b"1", {"predict": np.array(["ja", "ja"], dtype=object)})
    with pytest.raises(InvalidInput, match="got 'vielleicht'"):
        feedback.receive({"id": "1", "label": ["ja", "vielleicht"]})
    feedback.receive({"id": "1", "label": ["ja", "nein"]})
    assert told(telemetry, "modeldeploy_feedback_total") == [1, 1]


def test_a_label_beyond_measure_does_not_make_the_quality_infinite():
    feedback, telemetry = feedback_of((), "FP64")
    with pytest.raises(InvalidInput, match="too far from"):
        feedback.receive({"prediction": 1.0, "label": 1e200})
    feedback.receive({"prediction": 1.0, "label": 2.0})
    assert told(telemetry, "modeldeploy_quality") == [1, 1]


def test_what_waits_for_statistics_is_bounded_by_bytes():
    telemetry = Telemetry()
    model = SimpleNamespace(classes=(), probability_output="")
    about = {"identity": telemetry.identity, "metadata": Metadata(), "adapter": Columns([]), "model": model}
    monitor = Monitor(
        LoadedModel(**about, outputs=()), read_settings({"MODEL_SERVER_STORAGE_URI": "file:///m"}), telemetry
    )
    answer = np.empty(1, dtype=object)
    answer[0] = {"parts": ["x" * 1000] * 10_000}
    for number in range(20):
        monitor.predicted(b"%d" % number, {}, {"predict": answer})
    assert len(monitor._unseen) == 7, "ten million bytes each, and 64 MiB are allowed"
    monitor.close()
