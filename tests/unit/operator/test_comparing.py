"""The judge of A/B tests: one look or any number of them, and none while the users are not split as told."""

import json
import math

import numpy as np
import pytest

from model_operator.api.analysis import Comparison, Method, Metric, Source
from model_operator.api.strategy import parse_strategy
from model_operator.api.sums import SumStats
from model_operator.errors import ProviderError
from model_operator.observation.values import Outcome, Traffic
from model_operator.policy.analysis.ab_test import Compared, Users, body, judge, learn, read, tell, told, z_score
from model_operator.policy.analysis.feedback_test import Labels
from model_operator.policy.analysis.provider_results import hear
from model_operator.policy.analysis.state import AnalysisState, remembered, verdict
from model_operator.testing import VirtualClock

Z = Comparison(sample=1000, weight=50, method=Method.Z_TEST)
SEQUENTIAL = Comparison(sample=200, weight=50)


def moments(count: int, right: int) -> SumStats:
    return SumStats(count=count, total=count - right, squares=count - right)


def users(canary: tuple[int, int], stable: tuple[int, int], drawn: tuple[int, int] | None = None) -> Users:
    """Answers and right ones among them of both; as many users as answers, unless it is said how many were drawn."""
    mine, theirs = drawn or (canary[0], stable[0])
    labels = Labels(canary=moments(*canary), stable=moments(*stable))
    return Users(drawn=Traffic(canary=mine, stable=theirs), answers=labels)


def outcomes(test: Comparison, seed: int, canary: float, stable: float, looks: int = 40, size: int = 100) -> Outcome:
    rng, known = np.random.default_rng(seed), Compared()
    for _ in range(looks):
        n = int(rng.binomial(size, 0.5))
        known = learn(
            test, known, users((n, int(rng.binomial(n, canary))), (size - n, int(rng.binomial(size - n, stable))))
        )
    return judge(test, known)


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
def test_a_z_test_looks_when_the_sample_is_there(canary, stable, outcome) -> None:
    assert judge(Z, learn(Z, Compared(), users(canary, stable))) is outcome


def test_a_z_test_looks_once() -> None:
    decided = learn(Z, Compared(), users((1000, 105), (1000, 100)))
    later = learn(Z, decided, users((9000, 3000), (9000, 900)))
    assert judge(Z, later) is Outcome.NO_DIFFERENCE


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
def test_no_verdict_on_a_broken_split(drawn, outcome) -> None:
    assert judge(Z, learn(Z, Compared(), users((1000, 150), (1000, 100), drawn))) is outcome


@pytest.mark.parametrize("test", [Z, SEQUENTIAL])
def test_what_is_remembered_is_exact(test) -> None:
    known = learn(test, Compared(), users((1000, 150), (1000, 100)))
    again = read(json.loads(json.dumps(body(test, known))))
    assert again == known
    assert judge(test, again) is judge(test, known)


def test_the_line_has_the_numbers() -> None:
    metric = Metric(name="conversion", comparison=Z)
    assert tell(metric, Z, Compared()) == "conversion: no user was drawn for a revision yet"
    few = learn(Z, Compared(), users((40, 4), (50, 4)))
    assert tell(metric, Z, few) == (
        "conversion: canary 0.1000 of 40 answers, stable 0.0800 of 50, no look before 1000 of each (960 are missing)"
    )
    done = learn(Z, Compared(), users((1000, 150), (1000, 100)))
    assert tell(metric, Z, done).endswith("z 3.38: the canary is better")
    broken = learn(Z, Compared(), users((1000, 150), (1000, 100), (500, 1500)))
    assert "the split is broken" in tell(metric, Z, broken)
    assert "25.0 % where 50 % are wanted" in tell(metric, Z, broken)


def test_a_provider_counts_from_the_start() -> None:
    drawn = learn(Z, Compared(), users((0, 0), (0, 0), (600, 600)))
    first = told(Z, drawn, Labels(canary=moments(500, 80), stable=moments(500, 50)))
    second = told(Z, first, Labels(canary=moments(1000, 150), stable=moments(1000, 100)))
    assert second.answers.total.canary.count == 1000
    assert judge(Z, second) is Outcome.PASS
    assert told(Z, second, Labels()).answers == second.answers, "an empty answer is no evidence"


def test_a_provider_that_fails_holds_the_test() -> None:
    raw = {
        "metric": "revenue",
        "minimumSampleSize": 100,
        "prometheus": {"address": "http://prometheus:9090", "query": "a", "sampleQuery": "b"},
        "trafficRouting": {"gatewayAPI": {"parentRefs": [{"name": "public"}]}},
    }
    spec = parse_strategy({"abTest": raw}).analysis  # type: ignore[union-attr]
    assert spec is not None
    metric, now = spec.metrics[-1], VirtualClock().now()
    assert metric.comparison is not None
    assert isinstance(metric.comparison.source, Source)
    failed = hear(AnalysisState(), metric, ProviderError("no answer"), now)
    assert (verdict(spec, failed).problem, verdict(spec, failed).problem_since) == ("revenue: no answer", now)
    back = remembered(spec, {"metrics": verdict(spec, failed).metrics})
    assert back.problem(metric) == ("no answer", now)
    answered = hear(back, metric, [(12.0, 80.0), (10.0, 82.0)], now)
    assert verdict(spec, answered).problem == ""
