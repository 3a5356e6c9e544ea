"""The test of metrics from feedback: honest in noise, sharp where there is a difference."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from model_operator.api.analysis import Metric, parse_analysis
from model_operator.api.sums import SumStats
from model_operator.observation.values import Outcome
from model_operator.policy.analysis.feedback_test import MIN_SAMPLES, FeedbackState, FeedbackTest, Labels, mixture
from model_operator.policy.analysis.state import AnalysisState, from_status, update, verdict
from model_operator.policy.status.analysis_status import metric_entries

DECIDES_AT = 20.0
NOT_WORSE = Metric(name="accuracy", fail_drop=0.01, pass_drop=0.05)


Draw = Callable[[np.random.Generator, int, float], SumStats]


def answers(rng: np.random.Generator, count: int, wrong: float) -> SumStats:
    found = float(rng.binomial(count, wrong))
    return SumStats(count=count, total=found, squares=found)


def losses(rng: np.random.Generator, count: int, mean: float) -> SumStats:
    found = rng.exponential(mean, count)
    return SumStats(count=count, total=float(found.sum()), squares=float((found**2).sum()))


def outcomes(
    metric: Metric, seed: int, canary: float, stable: float, draw: Draw = answers, labels: tuple[int, int] = (50, 50)
) -> list[Outcome]:
    rng, known, found = np.random.default_rng(seed), FeedbackState(), []
    for _ in range(40):
        known = known.plus(Labels(canary=draw(rng, labels[0], canary), stable=draw(rng, labels[1], stable)))
        found.append(FeedbackTest(metric, DECIDES_AT).verdict(known))
    return found


@pytest.mark.parametrize(
    ("metric", "rate", "draw", "labels"),
    [
        pytest.param("accuracy", 0.05, answers, (50, 50), id="few wrong answers"),
        pytest.param("recall", 0.4, answers, (50, 50), id="many wrong answers"),
        pytest.param("accuracy", 0.1, answers, (5, 95), id="a small canary"),
        pytest.param("log-loss", 0.3, losses, (50, 50), id="losses"),
    ],
)
def test_an_equal_canary_is_hardly_ever_failed_however_often_it_is_looked_at(
    metric: str, rate: float, draw: Draw, labels: tuple[int, int]
) -> None:
    strict = Metric(name=metric, fail_drop=0.0)
    failed = sum(Outcome.FAIL in outcomes(strict, seed, rate, rate, draw, labels) for seed in range(150))
    assert failed / 150 <= 1 / DECIDES_AT


@pytest.mark.parametrize(
    ("metric", "canary", "stable", "draw"),
    [
        pytest.param("accuracy", 0.15, 0.05, answers, id="ten points of accuracy"),
        pytest.param("conversion", 0.97, 0.90, answers, id="seven points of conversion"),
        pytest.param("log-loss", 0.6, 0.3, losses, id="twice the loss"),
    ],
)
def test_a_worse_canary_fails(metric: str, canary: float, stable: float, draw: Draw) -> None:
    found = [outcomes(Metric(name=metric, fail_drop=0.01), seed, canary, stable, draw) for seed in range(50)]
    assert all(Outcome.FAIL in one for one in found)


def test_an_equal_canary_passes_where_a_small_drop_is_allowed() -> None:
    found = [outcomes(NOT_WORSE, seed, 0.1, 0.1) for seed in range(50)]
    assert sum(Outcome.PASS in one for one in found) >= 48


def test_what_both_share_is_nobodys_fault() -> None:
    rng, known = np.random.default_rng(3), FeedbackState()
    for wrong, ours, theirs in ((0.02, 10, 190), (0.4, 100, 100)) * 10:
        known = known.plus(Labels(canary=answers(rng, ours, wrong), stable=answers(rng, theirs, wrong)))
    assert known.total.canary.mean > known.total.stable.mean + 0.1, "pooled over the intervals it looks worse"
    assert FeedbackTest(NOT_WORSE, DECIDES_AT).verdict(known) is not Outcome.FAIL


def test_few_labels_decide_nothing() -> None:
    known = FeedbackState().plus(
        Labels(canary=SumStats(count=MIN_SAMPLES - 1, total=40, squares=40), stable=SumStats(count=500))
    )
    assert FeedbackTest(NOT_WORSE, DECIDES_AT).verdict(known) is Outcome.UNDECIDED
    assert "needs 50 labels of each for a verdict" in FeedbackTest(NOT_WORSE, DECIDES_AT).message(known)


@pytest.mark.parametrize(
    ("metric", "canary", "outcome"),
    [
        pytest.param(
            Metric(name="accuracy", minimum=0.9), SumStats(count=500, total=100, squares=100), Outcome.FAIL, id="below"
        ),
        pytest.param(
            Metric(name="accuracy", minimum=0.9),
            SumStats(count=500, total=52, squares=52),
            Outcome.UNDECIDED,
            id="near",
        ),
        pytest.param(
            Metric(name="f1", minimum=0.8), SumStats(count=500, total=300, squares=300), Outcome.FAIL, id="a low f1"
        ),
        pytest.param(
            Metric(name="log-loss", maximum=0.5), SumStats(count=300, total=240, squares=400), Outcome.FAIL, id="a loss"
        ),
    ],
)
def test_a_bound_needs_no_stable(metric: Metric, canary: SumStats, outcome: Outcome) -> None:
    assert FeedbackTest(metric, DECIDES_AT).verdict(FeedbackState(total=Labels(canary=canary))) is outcome


def test_f1_is_told_as_people_know_it() -> None:
    counted = SumStats(count=100, total=20, squares=20)
    assert FeedbackTest(Metric(name="f1"), DECIDES_AT).value(counted) == pytest.approx(2 * 80 / (2 * 80 + 20))
    assert FeedbackTest(Metric(name="f1"), DECIDES_AT).value(SumStats()) is None


def test_no_weight_is_no_evidence_and_much_does_not_overflow() -> None:
    assert mixture(0.0, 0.0) == pytest.approx(1.0)
    assert mixture(1e6, 10.0) > 1e300


def test_status_remembers_to_the_last_bit() -> None:
    spec = parse_analysis({"metrics": [{"name": "accuracy", "fail": {}, "pass": {"maxDropFromStable": 0.03}}]})
    rng = np.random.default_rng(1)
    seen = {"accuracy": Labels(canary=answers(rng, 93, 0.07), stable=answers(rng, 31, 0.05))}
    known = update(spec, AnalysisState(), seen)
    written = json.loads(json.dumps({"metrics": metric_entries(spec, verdict(spec, known))}))
    assert from_status(spec, written) == known
