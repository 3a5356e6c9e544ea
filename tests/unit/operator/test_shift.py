"""The test of prediction shift: noise is no distance, a shift is found, and status remembers."""

import json

import numpy as np
import pytest

from model_operator.api.analysis import Metric, parse_analysis
from model_operator.observation.values import Outcome
from model_operator.policy.analysis.shift_test import MIN_SAMPLES, OutputCounts, ShiftState, ShiftTest, distance
from model_operator.policy.analysis.state import AnalysisState, from_status, update, verdict
from model_operator.policy.status.analysis_status import metric_entries

METRIC = Metric(name="prediction-shift", maximum=0.2)
TEST = ShiftTest(METRIC, 20.0)


def shares(*parts: float) -> list[float]:
    return [part / sum(parts) for part in parts]


def drawn(rng: np.random.Generator, count: int, parts: list[float]) -> dict[str, int]:
    return {str(bin_): int(n) for bin_, n in enumerate(rng.multinomial(count, parts)) if n}


def play(
    seed: int, canary: list[float], stable: list[float], intervals: int = 30, sizes: tuple[int, int] = (30, 100)
) -> ShiftState:
    rng, known = np.random.default_rng(seed), ShiftState()
    for _ in range(intervals):
        seen = OutputCounts(canary=drawn(rng, sizes[0], canary), stable=drawn(rng, sizes[1], stable))
        known = TEST.update(known, seen)
        if known.outcome is Outcome.FAIL:
            break
    return known


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(shares(3, 7), id="two classes"),
        pytest.param(shares(*range(1, 11)), id="ten classes"),
        pytest.param(shares(*(0.5**i for i in range(30))), id="many rare buckets"),
    ],
)
def test_equal_answers_pass(parts: list[float]) -> None:
    found = [play(seed, parts, parts).outcome for seed in range(100)]
    assert Outcome.FAIL not in found
    assert found.count(Outcome.PASS) >= 95


def test_a_distance_that_is_allowed_is_hardly_ever_failed() -> None:
    canary, stable = shares(10, 90), shares(26.5, 73.5)  # a PSI of 0.194
    failed = sum(play(seed, canary, stable).outcome is Outcome.FAIL for seed in range(200))
    assert failed / 200 <= 1 / TEST.fail_at


@pytest.mark.parametrize(
    ("canary", "stable"),
    [
        pytest.param(shares(5, 5), shares(1, 9), id="another mix"),
        pytest.param(shares(1, 0), shares(0, 1), id="answers that stable never gives"),
    ],
)
def test_a_shift_is_found(canary: list[float], stable: list[float]) -> None:
    assert all(play(seed, canary, stable).outcome is Outcome.FAIL for seed in range(50))


def test_inputs_that_change_while_the_weight_grows_are_no_shift() -> None:
    rng, known = np.random.default_rng(5), ShiftState()
    for size, parts in [(5, shares(9, 1))] * 20 + [(100, shares(1, 9))] * 20:
        seen = OutputCounts(canary=drawn(rng, size, parts), stable=drawn(rng, 100, parts))
        known = TEST.update(known, seen)
    assert known.outcome is Outcome.PASS


def test_few_answers_decide_nothing_and_say_when_they_will() -> None:
    known = TEST.update(ShiftState(), OutputCounts(canary={"1": MIN_SAMPLES - 1}, stable={"0": 900}))
    assert known.outcome is Outcome.UNDECIDED
    assert TEST.message(known).endswith("next look at 200 of each")


def test_an_interval_without_stable_says_nothing() -> None:
    assert TEST.update(ShiftState(), OutputCounts(canary={"1": 5000})) == ShiftState()


def test_one_class_has_no_distance() -> None:
    known = TEST.update(ShiftState(), OutputCounts(canary={"1": 500}, stable={"1": 500}))
    assert distance(known) == (0.0, 0.0)
    assert known.outcome is Outcome.PASS


def test_status_remembers_to_the_last_bit() -> None:
    spec = parse_analysis({"metrics": [{"name": "prediction-shift", "max": 0.2}]})
    seen = {"prediction-shift": OutputCounts(canary={"0": 211, "1": 17}, stable={"0": 700, "2": 31})}
    known = update(spec, AnalysisState(), seen)
    written = json.loads(json.dumps({"metrics": metric_entries(spec, verdict(spec, known))}))
    assert from_status(spec, written) == known
