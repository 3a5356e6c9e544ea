"""When two answers agree, how far apart they are, which of them are a pair, and what follows from many."""

import random
from typing import Any

import pytest

from model_operator.api.analysis import Metric, parse_analysis
from model_operator.api.shadow import Prediction
from model_operator.api.sums import SumStats
from model_operator.observation.values import Outcome
from model_operator.policy.analysis.metric_test import Pair
from model_operator.policy.analysis.registry import fail_evidence, metric_tests
from model_operator.policy.analysis.shadow_pairs import Unpaired, next_every, pair_predictions
from model_operator.policy.analysis.shadow_test import ShadowState, ShadowTest, agree, distance
from model_operator.policy.analysis.state import AnalysisState, from_status, verdict
from model_operator.policy.status.analysis_status import metric_entries

AGREEMENT = Metric(name="shadow-agreement", minimum=0.95)
DISTANCE = Metric(name="shadow-distance", maximum=0.1)
DECIDES_AT = 20


def said(*values: Any, size: int = 0, request: str = "r") -> Prediction:
    """An answer of numbers, or of labels."""
    size = size or len(values)
    if values and isinstance(values[0], str):
        return Prediction(request=request, size=size, labels=values)
    return Prediction(request=request, size=size, numbers=values)


@pytest.mark.parametrize(
    ("one", "other", "tolerance", "alike"),
    [
        pytest.param(said(1.0), said(1.0), 0, True, id="equal numbers agree"),
        pytest.param(said(1.0), said(0.0), 0, False, id="other numbers do not"),
        pytest.param(said(0.3), said(0.30000004), 0, True, id="rounding is no difference"),
        pytest.param(said(0.3), said(0.31), 0, False, id="a hundredth is one"),
        pytest.param(said(0.3), said(0.31), 0.02, True, id="unless it is tolerated"),
        pytest.param(said(0.3, 0.5), said(0.3, 0.9), 0.02, False, id="every number counts"),
        pytest.param(said(None), said(None), 0, True, id="not a number agrees with itself"),
        pytest.param(said(None), said(0.0), 9, False, id="and with no number"),
        pytest.param(said("a"), said("a"), 0, True, id="equal labels agree"),
        pytest.param(said("a"), said("b"), 9, False, id="other labels do not, whatever the tolerance"),
        pytest.param(said("a"), said(1.0), 9, False, id="a label is no number"),
        pytest.param(said(1.0, size=20), said(1.0, size=21), 0, False, id="a longer answer is another one"),
    ],
)
def test_answers(one: Prediction, other: Prediction, tolerance: float, alike: bool) -> None:
    assert agree(one, other, tolerance) is alike
    assert agree(other, one, tolerance) is alike


@pytest.mark.parametrize(
    ("one", "other", "relative", "apart"),
    [
        pytest.param(said(1.0, 3.0), said(2.0, 3.0), False, 0.5, id="the mean over the values"),
        pytest.param(said(1.0, 3.0), said(2.0, 3.0), True, 0.25, id="each relative to the larger one"),
        pytest.param(said(0.0), said(0.0), True, 0.0, id="nothing from nothing"),
        pytest.param(said(-1.0), said(1.0), True, 2.0, id="a change of sign is twice the whole"),
        pytest.param(said(None, 1.0), said(2.0, 2.0), False, 1.0, id="what is no number is left out"),
        pytest.param(said(None), said(2.0), False, None, id="nothing is left"),
        pytest.param(said("a"), said("b"), False, None, id="labels have no distance"),
        pytest.param(said(1.0), said(1.0, 2.0), False, None, id="answers of other sizes have none"),
    ],
)
def test_distances(one: Prediction, other: Prediction, relative: bool, apart: float | None) -> None:
    assert distance(one, other, relative=relative) == apart
    assert distance(other, one, relative=relative) == apart


def test_a_pair_may_come_together_over_two_looks_and_not_over_three() -> None:
    a, b, c = (said(1.0, request=name) for name in "abc")
    pairs, unpaired = pair_predictions(Unpaired(), [a, b], [b])
    assert pairs == [(b, b)]
    pairs, unpaired = pair_predictions(unpaired, [], [a, a, c])
    assert pairs == [(a, a)], "once, however often it was asked"
    pairs, unpaired = pair_predictions(unpaired, [], [])
    assert pair_predictions(unpaired, [c], [])[0] == [], "what has waited for one look waits no longer"


@pytest.mark.parametrize(
    ("every", "kept", "then"),
    [
        pytest.param(1, 0, 1, id="nothing to thin out"),
        pytest.param(1, 512, 1, id="what fits is kept"),
        pytest.param(1, 513, 2, id="more than fits is halved"),
        pytest.param(4, 9000, 128, id="much more at once"),
        pytest.param(64, 10, 2, id="when it becomes quiet, more is kept again"),
        pytest.param(65_536, 10_000_000, 65_536, id="no more seldom than servers understand"),
    ],
)
def test_one_in_so_many_is_kept(every: int, kept: int, then: int) -> None:
    assert next_every(every, kept) == then


def pairs(agreeing: int, differing: int) -> list[Pair]:
    return [(said(1.0), said(1.0))] * agreeing + [(said(1.0), said(0.0))] * differing


@pytest.mark.parametrize(
    ("metric", "seen", "outcome", "why"),
    [
        pytest.param(AGREEMENT, [], Outcome.UNDECIDED, "no mirrored requests yet: setMirrorRoute", id="no requests"),
        pytest.param(AGREEMENT, pairs(10, 0), Outcome.UNDECIDED, "needs about", id="few say nothing"),
        pytest.param(AGREEMENT, pairs(200, 0), Outcome.PASS, "200 of 200", id="many that agree are a proof"),
        pytest.param(
            AGREEMENT, pairs(80, 20), Outcome.FAIL, "80 of 100 mirrored requests agree (80.00%)", id="a fifth"
        ),
        pytest.param(
            AGREEMENT, pairs(96, 4), Outcome.UNDECIDED, "0.95 required", id="near the bound there is no verdict"
        ),
        pytest.param(
            Metric(name="shadow-agreement", minimum=1), pairs(9999, 0), Outcome.UNDECIDED, "E 1 of 20", id="never all"
        ),
        pytest.param(
            Metric(name="shadow-agreement", minimum=1), pairs(9999, 1), Outcome.FAIL, "at least 1", id="one is enough"
        ),
        pytest.param(DISTANCE, pairs(49, 0), Outcome.UNDECIDED, "needs 50 for a verdict", id="few have no distance"),
        pytest.param(DISTANCE, pairs(200, 0), Outcome.PASS, "mean 0 of 200", id="no distance"),
        pytest.param(DISTANCE, pairs(100, 60), Outcome.FAIL, "0.1 allowed, E", id="a distance above the bound"),
        pytest.param(DISTANCE, pairs(180, 20), Outcome.UNDECIDED, "mean 0.1", id="the bound itself is allowed"),
        pytest.param(
            DISTANCE, [(said("a"), said("a"))], Outcome.UNDECIDED, "use shadow-agreement", id="labels are no numbers"
        ),
    ],
)
def test_many_pairs(metric: Metric, seen: list[Pair], outcome: Outcome, why: str) -> None:
    test = ShadowTest(metric, DECIDES_AT)
    known = test.apply_pairs(ShadowState(), seen)
    assert test.verdict(known) is outcome
    assert why in test.message(known)


def test_the_scale_of_the_numbers_is_no_evidence() -> None:
    for scale in (1e-6, 1.0, 1e6):
        test = ShadowTest(Metric(name="shadow-distance", maximum=0.1 * scale), DECIDES_AT)
        apart = [(said(0.0), said(0.3 * scale))] * 90 + [(said(0.0), said(0.0))] * 90
        assert test.verdict(test.apply_pairs(ShadowState(), apart)) is Outcome.FAIL
        near = [(said(0.0), said(0.02 * scale))] * 200
        assert test.verdict(test.apply_pairs(ShadowState(), near)) is Outcome.PASS


@pytest.mark.parametrize("wrong", [Outcome.FAIL, Outcome.PASS])
def test_a_canary_at_the_bound_hardly_ever_gets_a_verdict_however_often_one_looks(wrong: Outcome) -> None:
    runs_with_it = 0
    for seed in range(100):
        chance, differing = random.Random(seed), 0
        for look in range(1, 21):
            differing += sum(chance.random() < 0.05 for _ in range(50))
            known = ShadowState(pairs=50 * look, loss=SumStats(count=50 * look, total=differing, squares=differing))
            if ShadowTest(AGREEMENT, DECIDES_AT).verdict(known) is wrong:
                runs_with_it += 1
                break
    # Five are the most that may be expected; more than twelve of a hundred come in one of a thousand tries.
    assert runs_with_it <= 12


def test_status_remembers_what_is_known() -> None:
    spec = parse_analysis(
        {
            "metrics": [
                {"name": "shadow-agreement", "min": 0.9, "tolerance": 0.01},
                {"name": "shadow-distance", "max": 0.5, "distance": "Relative"},
            ]
        }
    )
    assert [test.can_pass for test in metric_tests(spec)] == [True, True]
    known = {m.name: ShadowTest(m, fail_evidence(spec)).apply_pairs(ShadowState(), pairs(30, 3)) for m in spec.metrics}
    found = verdict(spec, AnalysisState(known))
    assert found.outcome is Outcome.UNDECIDED
    agreement, apart = metric_entries(spec, found)
    assert agreement["value"] == pytest.approx(30 / 33, abs=1e-6)
    assert apart["value"] == pytest.approx(3 / 33, abs=1e-6)
    assert agreement["needRequests"] > 0
    assert from_status(spec, {"metrics": [agreement, apart]}).metrics == known
