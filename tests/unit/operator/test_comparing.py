"""The judge of A/B tests: one look or any number of them, and none while the users are not split as told."""

import json
import math

import numpy as np
import pytest

from model_operator.api.analysis import Comparison, Method, Metric
from model_operator.api.strategy import parse_strategy
from model_operator.api.sums import SumStats
from model_operator.errors import ProviderError
from model_operator.observation.values import Outcome, Traffic
from model_operator.policy.analysis.ab_test import AbTest, AbTestState, UserCounts, z_score
from model_operator.policy.analysis.feedback_test import Labels
from model_operator.policy.analysis.registry import metric_tests
from model_operator.policy.analysis.state import AnalysisState, apply_answer, from_status, verdict
from model_operator.policy.status.analysis_status import metric_entries
from model_operator.testing import VirtualClock


def ab_test(comparison: Comparison) -> AbTest:
    return AbTest(Metric(name="conversion", comparison=comparison), fail_at=20.0)


Z = ab_test(Comparison(sample=1000, weight=50, method=Method.Z_TEST))
SEQUENTIAL = ab_test(Comparison(sample=200, weight=50))


def moments(count: int, right: int) -> SumStats:
    return SumStats(count=count, total=count - right, squares=count - right)


def users(canary: tuple[int, int], stable: tuple[int, int], drawn: tuple[int, int] | None = None) -> UserCounts:
    """Answers and right ones among them of both; as many users as answers, unless it is said how many were drawn."""
    mine, theirs = drawn or (canary[0], stable[0])
    labels = Labels(canary=moments(*canary), stable=moments(*stable))
    return UserCounts(assignments=Traffic(canary=mine, stable=theirs), answers=labels)


def outcomes(test: AbTest, seed: int, canary: float, stable: float, looks: int = 40, size: int = 100) -> Outcome:
    rng, known = np.random.default_rng(seed), AbTestState()
    for _ in range(looks):
        n = int(rng.binomial(size, 0.5))
        known = test.update(
            known, users((n, int(rng.binomial(n, canary))), (size - n, int(rng.binomial(size - n, stable))))
        )
    return test.verdict(known)


def test_z_is_that_of_the_textbook() -> None:
    # Fleiss, Levin and Paik: p pooled 0.15, difference 0.05, n 200 each.
    expected = 0.05 / math.sqrt(0.15 * 0.85 * (2 / 200))
    assert z_score(moments(200, 35), moments(200, 25)) == pytest.approx(expected)
    assert z_score(moments(200, 200), moments(200, 200)) == 0.0


@pytest.mark.parametrize(
    ("canary", "stable", "outcome"),
    [
        pytest.param((1000, 150), (1000, 100), Outcome.PASS, id="five points better"),
        pytest.param((1000, 100), (1000, 150), Outcome.FAIL, id="five points worse"),
        pytest.param((1000, 105), (1000, 100), Outcome.NO_DIFFERENCE, id="half a point"),
        pytest.param((999, 150), (1001, 100), Outcome.UNDECIDED, id="one answer short of the sample"),
    ],
)
def test_a_z_test_looks_when_the_sample_is_there(
    canary: tuple[int, int], stable: tuple[int, int], outcome: Outcome
) -> None:
    assert Z.verdict(Z.update(AbTestState(), users(canary, stable))) is outcome


def test_a_z_test_looks_once() -> None:
    decided = Z.update(AbTestState(), users((1000, 105), (1000, 100)))
    later = Z.update(decided, users((9000, 3000), (9000, 900)))
    assert Z.verdict(later) is Outcome.NO_DIFFERENCE


def test_equal_revisions_seldom_have_a_winner() -> None:
    won = [outcomes(Z, seed, 0.1, 0.1) is not Outcome.NO_DIFFERENCE for seed in range(150)]
    assert sum(won) / 150 <= 0.1, "alpha is 0.05"
    peeked = [outcomes(SEQUENTIAL, seed, 0.1, 0.1) is not Outcome.UNDECIDED for seed in range(100)]
    assert sum(peeked) / 100 <= 0.05


def test_a_difference_is_found_by_looking_again_and_again() -> None:
    assert {outcomes(SEQUENTIAL, seed, 0.20, 0.10) for seed in range(50)} == {Outcome.PASS}
    assert {outcomes(SEQUENTIAL, seed, 0.10, 0.20) for seed in range(50)} == {Outcome.FAIL}


@pytest.mark.parametrize(
    ("drawn", "outcome"),
    [
        pytest.param((500, 1500), Outcome.SAMPLE_RATIO_MISMATCH, id="a quarter where half was wanted"),
        pytest.param((0, 0), Outcome.UNDECIDED, id="nobody was counted"),
        pytest.param((1010, 990), Outcome.PASS, id="as chance splits"),
    ],
)
def test_no_verdict_on_a_broken_split(drawn: tuple[int, int], outcome: Outcome) -> None:
    assert Z.verdict(Z.update(AbTestState(), users((1000, 150), (1000, 100), drawn))) is outcome


@pytest.mark.parametrize("test", [Z, SEQUENTIAL])
def test_what_is_remembered_is_exact(test: AbTest) -> None:
    known = test.update(AbTestState(), users((1000, 150), (1000, 100)))
    again = test.from_status(json.loads(json.dumps(test.to_status(known))))
    assert again == known
    assert test.verdict(again) is test.verdict(known)


def test_the_line_has_the_numbers() -> None:
    assert Z.message(AbTestState()) == "conversion: no user was assigned to a revision yet"
    few = Z.update(AbTestState(), users((40, 4), (50, 4)))
    assert Z.message(few) == (
        "conversion: canary 0.1000 of 40 answers, stable 0.0800 of 50, no verdict before 1000 of each (960 are missing)"
    )
    done = Z.update(AbTestState(), users((1000, 150), (1000, 100)))
    assert Z.message(done).endswith("z 3.38: the canary is better")
    broken = Z.update(AbTestState(), users((1000, 150), (1000, 100), (500, 1500)))
    assert "the split is broken" in Z.message(broken)
    assert "25.0 %, but the weight is 50 %" in Z.message(broken)


def test_a_provider_counts_from_the_start() -> None:
    drawn = Z.update(AbTestState(), users((0, 0), (0, 0), (600, 600)))
    first = Z.apply_answer(drawn, [80.0, 500.0, 50.0, 500.0])
    second = Z.apply_answer(first, [150.0, 1000.0, 100.0, 1000.0])
    assert second.answers.total.canary.count == 1000
    assert Z.verdict(second) is Outcome.PASS
    assert Z.apply_answer(second, [None, None, None, None]).answers == second.answers, "an empty answer is no evidence"


def test_a_provider_that_fails_holds_the_test() -> None:
    raw = {
        "metric": "revenue",
        "minimumSampleSize": 100,
        "prometheus": {"address": "http://prometheus:9090", "query": "a", "sampleQuery": "b"},
        "trafficRouting": {"gatewayAPI": {"parentRefs": [{"name": "public"}]}},
    }
    spec = parse_strategy({"abTest": raw}).analysis  # type: ignore[union-attr]
    assert spec is not None
    test, now = metric_tests(spec)[-1], VirtualClock().now()
    assert isinstance(test, AbTest)
    assert [query.revision for query in test.queries("canary", "stable")] == ["canary", "canary", "stable", "stable"]
    failed = apply_answer(AnalysisState(), test, ProviderError("no answer"), now)
    assert (verdict(spec, failed).problem, verdict(spec, failed).problem_since) == ("revenue: no answer", now)
    back = from_status(spec, {"metrics": metric_entries(spec, verdict(spec, failed))})
    assert (back.of(test).problem, back.of(test).problem_since) == ("no answer", now)
    answered = apply_answer(back, test, [12.0, 80.0, 10.0, 82.0], now)
    assert verdict(spec, answered).problem == ""
