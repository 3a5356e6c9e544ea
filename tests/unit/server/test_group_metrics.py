"""Quality by group is fairlearn's, few rows are said to be few, and what cannot be compared is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fairlearn.metrics
import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score

from model_server.errors import DatasetInvalid
from model_server.group_metrics import MOST_GROUPS, GroupMetrics, rows_needed, wilson
from model_server.offline_metrics import DIFFERENCES, GROUP_METRICS, ClassificationMetrics, RegressionMetrics

Rows = tuple[Sequence[Any], Sequence[Any], Sequence[Any]]


def diabetes() -> Rows:
    """Whether the disease progressed more than in most, by the sex of the patient."""
    table = load_diabetes(scaled=False)
    labels = (table.target > np.median(table.target)).astype(int)
    fitted = LogisticRegression(max_iter=5000).fit(table.data, labels)
    return table.data[:, 1].tolist(), labels.tolist(), fitted.predict(table.data).tolist()


def breast_cancer() -> Rows:
    """Benign tumours, by texture in four groups."""
    table = load_breast_cancer()
    texture = table.data[:, 1]
    fitted = LogisticRegression(max_iter=5000).fit(table.data[:, :3], table.target)
    groups = np.searchsorted(np.quantile(texture, [0.25, 0.5, 0.75]), texture)
    return [f"quarter {group}" for group in groups], table.target.tolist(), fitted.predict(table.data[:, :3]).tolist()


def measured(rows: Rows, names: Sequence[str] = GROUP_METRICS, classes: Sequence[Any] = (0, 1)) -> GroupMetrics:
    groups, labels, predictions = rows
    scores, found = ClassificationMetrics(classes), GroupMetrics(["group"], names, answers_numbers=False)
    for part in range(0, len(labels), 100):
        cut = slice(part, part + 100)
        places = scores.add(predictions[cut], labels[cut], None)
        found.add([{"group": group} for group in groups[cut]], places, predictions[cut], labels[cut])
    found.close(scores.order)
    return found


@pytest.mark.parametrize("data", [diabetes, breast_cancer])
@pytest.mark.parametrize("classes", [pytest.param((0, 1), id="declared"), pytest.param((), id="met")])
def test_differences_between_groups_are_those_of_fairlearn(data: Any, classes: Sequence[Any]) -> None:
    groups, labels, predictions = data()
    by = {"sensitive_features": groups}
    frame = fairlearn.metrics.MetricFrame(metrics=accuracy_score, y_true=labels, y_pred=predictions, **by)
    expected = {
        "selection-rate-difference": fairlearn.metrics.demographic_parity_difference(labels, predictions, **by),
        "equal-opportunity-difference": fairlearn.metrics.equal_opportunity_difference(labels, predictions, **by),
        "equalized-odds-difference": fairlearn.metrics.equalized_odds_difference(labels, predictions, **by),
        "worst-group-accuracy": frame.group_min(),
    }
    assert measured((groups, labels, predictions), classes=classes).metrics() == pytest.approx(expected, abs=1e-12)


def test_each_group_has_its_rates_and_an_interval() -> None:
    groups, labels, predictions = diabetes()
    shown = measured((groups, labels, predictions)).shown()["group"]
    frame = fairlearn.metrics.MetricFrame(
        metrics={
            "selectionRate": fairlearn.metrics.selection_rate,
            "falsePositiveRate": fairlearn.metrics.false_positive_rate,
        },
        y_true=labels, y_pred=predictions, sensitive_features=[str(int(group)) for group in groups],
    )  # fmt: skip
    for group, rates in frame.by_group.to_dict("index").items():
        assert {name: shown[group][name] for name in rates} == pytest.approx(rates, abs=1e-4)
        assert shown[group]["low"] < shown[group]["accuracy"] < shown[group]["high"]


@pytest.mark.parametrize(("right", "rows"), [(0, 5), (5, 5), (17, 20), (900, 1000)])
def test_intervals_are_those_of_wilson(right: int, rows: int) -> None:
    expected = binomtest(right, rows).proportion_ci(method="wilson")
    assert wilson(right, rows) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_a_group_of_five_rows_says_how_many_more_it_needs() -> None:
    rows = (["a"] * 500 + ["b"] * 5, [0, 1] * 252 + [0], [0, 1] * 252 + [0])
    needed = rows_needed(5, 5, overall=1.0) - 5
    assert measured(rows).notes() == [
        f"group=b has 5 rows: to know its accuracy to within 0.05 it needs about {needed} more"
    ]


def test_a_group_that_differs_from_the_others_needs_what_its_own_accuracy_takes() -> None:
    needed = rows_needed(600, 1000, overall=0.95)
    low, high = wilson(0.6 * needed, needed)
    assert (high - low) / 2 == pytest.approx(0.05, rel=0.02)
    assert rows_needed(3, 5, overall=0.95) < needed, "five rows say little of it"


def test_a_group_without_positive_rows_has_no_opportunity_to_compare() -> None:
    rows = (["a"] * 4 + ["b"], [0, 1, 0, 1, 0], [0, 1, 0, 1, 0])
    with pytest.raises(DatasetInvalid, match="the group group=b has no row whose true answer is the positive class"):
        measured(rows, ["equal-opportunity-difference"]).metrics()


@pytest.mark.parametrize(
    ("row", "why", "hint"),
    [
        pytest.param({"sexe": 1, "age": 2}, "no column 'sex' for groups; its columns: sexe, age", "'sexe'", id="near"),
        pytest.param({"age": 2}, "no column 'sex' for groups", "Name a column", id="nothing near"),
    ],
)
def test_an_absent_column_is_named_with_near_ones(row: Any, why: str, hint: str) -> None:
    with pytest.raises(DatasetInvalid, match=why) as raised:
        GroupMetrics(["sex"], [], answers_numbers=False).add([row], [(0, 0)], [0], [0])
    assert hint in raised.value.hint


def test_a_column_of_many_values_is_no_column_of_groups() -> None:
    count = MOST_GROUPS + 1
    with pytest.raises(DatasetInvalid, match="more than 32 values"):
        measured(([*range(count)], [0] * count, [0] * count))


@pytest.mark.parametrize("name", DIFFERENCES)
def test_three_classes_have_no_positive_one(name: str) -> None:
    with pytest.raises(DatasetInvalid, match="needs two classes"):
        measured((["a"] * 3, [0, 1, 2], [0, 1, 2]), [name], (0, 1, 2))


def test_metrics_of_groups_need_a_column() -> None:
    with pytest.raises(DatasetInvalid, match="worst-group-accuracy compares groups, and no column is named"):
        GroupMetrics([], ["accuracy", "worst-group-accuracy"], answers_numbers=False)


def test_numbers_are_told_apart_by_group_too() -> None:
    scores, found = RegressionMetrics(), GroupMetrics(["g"], ["mae"], answers_numbers=True)
    found.add([{"g": "a"}, {"g": "b"}], scores.add([1.0, 2.0], [1.0, 4.0], None), [1.0, 2.0], [1.0, 4.0])
    assert [table["mae"] for table in found.shown()["g"].values()] == [2.0, 0.0], "the worst first"
