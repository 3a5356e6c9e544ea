"""Data quality and outliers, on data sets of scikit-learn: what is counted, what is named, and what is no alarm."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import datasets

from model_server.domain.features import Feature, Metadata, ReferenceFeature
from model_server.errors import InvalidInput, Problem, ReferenceProfileMismatch, ReferenceProfileMissing
from model_server.monitoring.data_quality import ALPHA, DataQuality, limits_by_problem
from model_server.monitoring.marginals import RARE, Marginal, distances, threshold
from model_server.monitoring.rate_alarm import RateAlarm
from model_server.telemetry import Telemetry

MAX_BAD_RATE = 0.05
LIMITS = limits_by_problem(MAX_BAD_RATE)


def profile_of(values, missing=0):
    present = values[~np.isnan(values)]
    edges = np.unique(np.quantile(present, np.linspace(0, 1, 11)))
    counts, _ = np.histogram(present, bins=edges)
    return ReferenceFeature(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()), missing=missing)


def halves(name):
    """Features, metadata, and rows that the profile does not know, in random order."""
    data = getattr(datasets, f"load_{name}")().data
    rows = np.random.default_rng(1).permutation(data)
    training, fresh = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    features = [Feature(name=f"x{place}") for place in range(data.shape[1])]
    varied = [place for place in range(data.shape[1]) if len(np.unique(np.quantile(training[:, place], [0, 1]))) > 1]
    profile = {f"x{place}": profile_of(training[:, place]) for place in varied}
    return features, Metadata(input_features=tuple(features), reference_profile=profile), fresh


def watched(name="breast_cancer"):
    features, metadata, fresh = halves(name)
    telemetry = Telemetry()
    return DataQuality(features, metadata, LIMITS, telemetry), telemetry, fresh


def found(telemetry, family):
    """Samples of a family by feature and problem, or by its own name."""
    return {
        (sample.labels.get("feature", ""), sample.labels.get("problem", "")): sample.value
        for one in telemetry.registry.collect()
        if one.name == family
        for sample in one.samples
        if not sample.name.endswith("_created")
    }


def named(telemetry):
    return {pair for pair, value in found(telemetry, "modeldeploy_data_quality_alert").items() if value}


def ask(quality, rows, *, at_once=20):
    """Requests of one row each, some in each tick."""
    for first in range(0, len(rows), at_once):
        quality.update([{"inputs": row[None]} for row in rows[first : first + at_once]])


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes", "digits"])
def test_fresh_rows_of_the_same_data_name_no_feature_and_are_rarely_outliers(name):
    quality, telemetry, fresh = watched(name)
    ask(quality, fresh)
    assert named(telemetry) == set()
    assert found(telemetry, "modeldeploy_inspected_rows")["", ""] == len(fresh)
    assert found(telemetry, "modeldeploy_outlier_rows")["", ""] <= 0.01 * len(fresh)
    bad = found(telemetry, "modeldeploy_bad_rows")["", ""] / len(fresh)
    assert bad <= found(telemetry, "modeldeploy_expected_bad_share")["", ""] + MAX_BAD_RATE


@pytest.mark.parametrize("good", [0, 10_000], ids=["from the start", "after many good requests"])
@pytest.mark.parametrize("name", ["wine", "breast_cancer"])
def test_a_unit_error_is_named_within_200_requests(name, good):
    quality, telemetry, fresh = watched(name)
    random = np.random.default_rng(2)
    if good:
        ask(quality, fresh[random.integers(len(fresh), size=good)], at_once=500)
    wrong = fresh[random.integers(len(fresh), size=200)].copy()
    wrong[:, 3] *= 1000
    ask(quality, wrong)
    assert named(telemetry) == {("x3", "out_of_range")}
    assert found(telemetry, "modeldeploy_data_quality_share")["x3", "out_of_range"] > 0.15


def test_an_alarm_ends_when_the_inputs_are_good_again():
    quality, telemetry, fresh = watched()
    wrong = fresh.copy()
    wrong[:, 3] *= 1000
    ask(quality, wrong)
    assert named(telemetry)
    ask(quality, np.tile(fresh, (4, 1)))
    assert not named(telemetry)


def test_rows_that_are_far_in_many_features_are_outliers():
    quality, telemetry, fresh = watched("digits")
    ask(quality, fresh.max() - fresh)
    assert found(telemetry, "modeldeploy_outlier_requests")["", ""] > 0.9 * len(fresh)


@pytest.mark.parametrize(
    ("single", "expected"),
    [
        pytest.param([], {("", "outlier")}, id="by the limit of all problems"),
        pytest.param(["outlier:0.95", "missing:0.1"], set(), id="by a limit of their own"),
    ],
)
def test_outliers_are_judged_by_requests(single, expected):
    features, metadata, fresh = halves("digits")
    telemetry = Telemetry()
    quality = DataQuality(features, metadata, limits_by_problem(MAX_BAD_RATE, single), telemetry)
    far = fresh.max() - fresh
    # A request with a hundred far rows is one.
    quality.update([{"inputs": np.tile(far[:1], (100, 1))}])
    assert ("", "outlier") not in named(telemetry)
    # Some of the far rows are outside of single features' ranges too.
    ask(quality, np.concatenate([fresh[:20], far[:80]]))
    assert {pair for pair in named(telemetry) if pair[1] == "outlier"} == expected
    share = found(telemetry, "modeldeploy_data_quality_share")["", "outlier"]
    assert 0.7 < share < 0.9
    limit = found(telemetry, "modeldeploy_data_quality_limit")["", "outlier"]
    assert (share > limit) == bool(expected)
    assert ("", "outlier") not in found(telemetry, "modeldeploy_data_quality_problems")


def test_a_request_counts_once_however_many_of_its_rows_are_bad():
    quality, telemetry, fresh = watched()
    wrong = fresh[:50].copy()
    wrong[:, 0] = 1e9
    quality.update([{"inputs": wrong}, {"inputs": wrong[:0]}])
    assert found(telemetry, "modeldeploy_bad_requests")["", ""] == 1
    assert found(telemetry, "modeldeploy_bad_rows")["", ""] == 50
    assert found(telemetry, "modeldeploy_data_quality_problems")["x0", "out_of_range"] == 50


PLAN = Feature(name="plan", dtype="string", nullable=True)
PLANS = {"free": 700, "paid": 220}


@pytest.mark.parametrize(
    ("missing", "values", "problems"),
    [
        pytest.param(0, [None] * 60, {("plan", "missing")}, id="missing, and never in training"),
        pytest.param(900, [None, "free"] * 30, set(), id="missing as often as in training"),
        pytest.param(None, [None] * 60, set(), id="an older profile does not say how often it was missing"),
        pytest.param(0, ["gold"] * 60, {("plan", "unseen_category")}, id="a new category"),
        pytest.param(0, ["paid"] * 60, set(), id="a known category, more often"),
    ],
)
def test_text_is_judged_against_the_training_data(missing, values, problems):
    telemetry = Telemetry()
    profile = {"plan": ReferenceFeature(categories=PLANS, missing=missing)}
    quality = DataQuality([PLAN], Metadata(reference_profile=profile), LIMITS, telemetry)
    for value in values:
        quality.update([{"plan": np.array([value], dtype=object)}])
    assert named(telemetry) == problems
    absent = values.count(None)
    assert found(telemetry, "modeldeploy_data_quality_problems").get(("plan", "missing"), 0) == absent


def test_what_the_schema_refused_names_its_feature():
    quality, telemetry, _ = watched()
    for _ in range(50):
        quality.refused(InvalidInput([Problem("instances[0].x2", "expected a number", "x2", "wrong_type")]))
        quality.refused(InvalidInput.at("instances", "is missing"))
        quality.update([])
    assert named(telemetry) == {("x2", "wrong_type")}
    assert found(telemetry, "modeldeploy_bad_requests")["", ""] == 50


def test_the_alarm_is_false_with_a_probability_of_at_most_alpha():
    random, alpha, limit = np.random.default_rng(5), 0.05, 0.1
    false = 0
    for _ in range(1000):
        alarm = RateAlarm(np.full(3, limit), alpha)
        for _ in range(40):
            # Rows of one request are all good or all bad: the worst dependence there is, at the limit itself.
            bad = random.binomial(25, limit, size=3)
            alarm.update(25, [np.ones(count) for count in bad])
            if (alarm.evidence >= alarm.alarm_at).any():
                false += 1
                break
    assert false <= 1000 * alpha


def test_the_threshold_is_exceeded_by_rare_rows_of_the_simulation():
    marginal = Marginal.of(Feature(name="a"), ReferenceFeature(edges=(0, 1, 2, 3), counts=(10, 80, 10), missing=0))
    cells = marginal.cells(np.array([-1, 0, 1.5, 3, 3.1, np.nan]))
    assert cells.tolist() == [0, 1, 2, 3, 4, 5]
    scores = distances(marginal.scores[:, cells])
    assert scores[0] == scores[4] > scores[1] > scores[2]
    assert threshold([marginal]) <= scores.max()
    assert 0 < RARE < ALPHA


@pytest.mark.parametrize(
    ("features", "profile", "error", "says"),
    [
        pytest.param([PLAN], {}, ReferenceProfileMissing, "has no reference_profile", id="no profile"),
        pytest.param(
            [PLAN],
            {"age": ReferenceFeature(categories=PLANS)},
            ReferenceProfileMismatch,
            "describes 'age', and the model has plan",
            id="a feature of another model",
        ),
        pytest.param(
            [],
            {"age": ReferenceFeature(categories=PLANS)},
            ReferenceProfileMismatch,
            "describes 'age', and the model's inputs have no names",
            id="a model without features",
        ),
        pytest.param(
            [PLAN],
            {"plan": ReferenceFeature(edges=(0, 1), counts=(5,))},
            ReferenceProfileMismatch,
            "gives edges for 'plan', which is of dtype string",
            id="numbers for text",
        ),
        pytest.param(
            [Feature(name="age")],
            {"age": ReferenceFeature(categories=PLANS)},
            ReferenceProfileMismatch,
            "reference_profile of 'age': ",
            id="text for numbers",
        ),
        pytest.param(
            [Feature(name="day", dtype="date")],
            {"day": ReferenceFeature(categories={"2024-03-01": 5})},
            ReferenceProfileMismatch,
            "describes none of the first 128 features",
            id="times alone",
        ),
        pytest.param(
            [PLAN],
            {"plan": ReferenceFeature(categories={"free": 0})},
            ReferenceProfileMismatch,
            "counts no value of 'plan'",
            id="no counts",
        ),
    ],
)
def test_a_profile_that_cannot_be_compared_with_stops_the_start(features, profile, error, says):
    with pytest.raises(error, match=says) as caught:
        DataQuality(features, Metadata(reference_profile=profile), LIMITS, Telemetry())
    assert "model.yaml" in caught.value.hint or "reference_profile" in caught.value.hint
