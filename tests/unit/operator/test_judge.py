"""The test of rates."""

import numpy as np
import pytest

from model_operator.api.analysis import AnalysisSpec
from model_operator.api.values import replace
from model_operator.observation.values import Outcome
from model_operator.policy.analysis.interval_spread import Counts
from model_operator.policy.analysis.rate_test import RateState, RateTest, e_value
from model_operator.policy.analysis.registry import fail_evidence

SPEC = AnalysisSpec()
ERRORS, REFUSALS = SPEC.metrics


TEST = RateTest(ERRORS, fail_evidence(SPEC))
FAILS_ONLY = RateTest(replace(ERRORS, pass_ratio=None, pass_rate=None), fail_evidence(SPEC))


def test_no_data_is_no_evidence() -> None:
    assert TEST.verdict(RateState()) is Outcome.UNDECIDED
    assert TEST.update(RateState(), Counts(stable=100, stable_bad=50)).fail == RateState().fail


def test_ten_percent_errors_against_a_half_are_found_in_two_intervals() -> None:
    found = []
    for seed in range(200):
        evidence, rng = RateState(), np.random.default_rng(seed)
        for interval in range(1, 10):
            evidence = TEST.update(evidence, sample(rng, canary=125, p_canary=0.10, stable=375, p_stable=0.005))
            if TEST.verdict(evidence) is Outcome.FAIL:
                found.append(interval)
                break
    assert sorted(found)[len(found) // 2] <= 2
    assert len(found) == 200


@pytest.mark.parametrize(
    "shared", [pytest.param(0.0, id="a quiet service"), pytest.param(0.2, id="errors that both share")]
)
def test_a_healthy_canary_is_hardly_ever_failed(shared: float) -> None:
    failed = 0
    for seed in range(1000):
        evidence, rng = RateState(), np.random.default_rng(seed)
        for _ in range(40):
            rate = 0.005 + (shared if rng.random() < 0.2 else 0.0)
            counts = sample(rng, canary=50, p_canary=rate, stable=450, p_stable=rate)
            evidence = FAILS_ONLY.update(evidence, counts)
        failed += TEST.verdict(evidence) is Outcome.FAIL
    assert failed / 1000 <= SPEC.alpha


def test_a_healthy_canary_is_hardly_ever_failed_by_errors_or_refusals() -> None:
    """The false alarms of the default analysis, both metrics together; clients send more invalid requests at times."""
    tests = [RateTest(metric, fail_evidence(SPEC)) for metric in SPEC.metrics]
    failed = 0
    for seed in range(1000):
        states, rng, is_failed = [RateState(), RateState()], np.random.default_rng(seed), False
        for _ in range(40):
            refused = 0.02 + (0.3 if rng.random() < 0.2 else 0.0)
            for number, rate in enumerate((0.005, refused)):
                counts = sample(rng, canary=50, p_canary=rate, stable=450, p_stable=rate)
                states[number] = tests[number].update(states[number], counts)
                is_failed |= tests[number].fail_evidence(states[number]) >= tests[number].fail_at
        failed += is_failed
    assert failed / 1000 <= SPEC.alpha


@pytest.mark.parametrize(("canary", "intervals"), [(25, 5), (250, 8)])
def test_a_canary_that_refuses_what_stable_answers_is_found_soon(canary: int, intervals: int) -> None:
    test, rng, state = RateTest(REFUSALS, fail_evidence(SPEC)), np.random.default_rng(7), RateState()
    for _ in range(intervals):
        state = test.update(state, sample(rng, canary=canary, p_canary=0.5, stable=500 - canary, p_stable=0.02))
    assert test.verdict(state) is Outcome.FAIL


@pytest.mark.parametrize(
    ("share", "size"),
    [
        pytest.param(0.05, 20, id="clients of 20 requests, 5 % of them bad"),
        pytest.param(0.2, 50, id="clients of 50 requests, a fifth of them bad"),
        pytest.param(0.02, 250, id="one client that sends half of all requests"),
    ],
)
def test_bad_clients_on_kept_connections_hardly_ever_fail_a_healthy_canary(share: float, size: int) -> None:
    test, failed, clients = RateTest(REFUSALS, fail_evidence(SPEC)), 0, 500 // size
    for seed in range(300):
        state, rng = RateState(), np.random.default_rng(seed)
        for number in range(40):
            n = int(rng.binomial(clients, (0.05, 0.1, 0.25, 0.5)[number // 10]))
            bad = rng.binomial(n, share), rng.binomial(clients - n, share)
            canary, stable = (n, int(bad[0])), (clients - n, int(bad[1]))
            counts = Counts(
                canary=canary[0] * size,
                canary_bad=canary[1] * size,
                stable=stable[0] * size,
                stable_bad=stable[1] * size,
            )
            state = test.update(state, counts)
            if test.verdict(state) is Outcome.FAIL:
                failed += 1
                break
    assert failed / 300 <= SPEC.alpha


def test_enough_good_answers_pass() -> None:
    evidence = RateState()
    for _ in range(9):
        evidence = TEST.update(evidence, Counts(canary=60, stable=600))
    assert TEST.verdict(evidence) is Outcome.PASS


def test_few_good_answers_tell_how_many_more_are_needed() -> None:
    evidence = TEST.update(RateState(), Counts(canary=60, stable=600))
    assert TEST.verdict(evidence) is Outcome.UNDECIDED
    more = TEST.needed(evidence)
    assert more is not None
    assert TEST.verdict(TEST.update(evidence, Counts(canary=more))) is Outcome.PASS


def test_overwhelming_evidence_does_not_overflow() -> None:
    assert e_value([5000.0, 0.0]) > 1e300


def sample(rng: np.random.Generator, *, canary: int, p_canary: float, stable: int, p_stable: float) -> Counts:
    return Counts(
        canary=canary,
        canary_bad=int(rng.binomial(canary, p_canary)),
        stable=stable,
        stable_bad=int(rng.binomial(stable, p_stable)),
    )
