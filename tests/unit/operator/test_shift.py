"""The judge of prediction shift: noise is no distance, a shift is found, and status remembers."""

import json

import numpy as np
import pytest

from model_operator.api.analysis import Metric, parse_analysis
from model_operator.observation.values import Outcome
from model_operator.policy.analysis.shift_test import FEWEST, Outputs, Shift, distance, learn, tell_shift
from model_operator.policy.analysis.state import AnalysisState, learn_all, remembered, verdict

METRIC = Metric(name="prediction-shift", maximum=0.2)
DECIDES_AT = 20.0


def shares(*parts: float) -> list[float]:
    return [part / sum(parts) for part in parts]


def drawn(rng: np.random.Generator, count: int, parts: list[float]) -> dict[str, int]:
    return {str(bin_): int(n) for bin_, n in enumerate(rng.multinomial(count, parts)) if n}


def play(seed: int, canary: list[float], stable: list[float], intervals: int = 30, sizes=(30, 100)) -> Shift:
    rng, known = np.random.default_rng(seed), Shift()
    for _ in range(intervals):
        seen = Outputs(canary=drawn(rng, sizes[0], canary), stable=drawn(rng, sizes[1], stable))
        known = learn(METRIC, known, seen, DECIDES_AT)
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
    assert failed / 200 <= 1 / DECIDES_AT


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
    rng, known = np.random.default_rng(5), Shift()
    for size, parts in [(5, shares(9, 1))] * 20 + [(100, shares(1, 9))] * 20:
        seen = Outputs(canary=drawn(rng, size, parts), stable=drawn(rng, 100, parts))
        known = learn(METRIC, known, seen, DECIDES_AT)
    assert known.outcome is Outcome.PASS


def test_few_answers_decide_nothing_and_say_when_they_will() -> None:
    known = learn(METRIC, Shift(), Outputs(canary={"1": FEWEST - 1}, stable={"0": 900}), DECIDES_AT)
    assert known.outcome is Outcome.UNDECIDED
    assert tell_shift(METRIC, known).endswith("looks again at 200 of each")


def test_an_interval_without_stable_says_nothing() -> None:
    assert learn(METRIC, Shift(), Outputs(canary={"1": 5000}), DECIDES_AT) == Shift()


def test_one_class_has_no_distance() -> None:
    known = learn(METRIC, Shift(), Outputs(canary={"1": 500}, stable={"1": 500}), DECIDES_AT)
    assert distance(known) == (0.0, 0.0)
    assert known.outcome is Outcome.PASS


def test_status_remembers_to_the_last_bit() -> None:
    spec = parse_analysis({"metrics": [{"name": "prediction-shift", "max": 0.2}]})
    seen = {"prediction-shift": Outputs(canary={"0": 211, "1": 17}, stable={"0": 700, "2": 31})}
    knowledge = learn_all(spec, AnalysisState(), seen)
    written = json.loads(json.dumps({"metrics": list(verdict(spec, knowledge).metrics)}))
    assert remembered(spec, written) == knowledge
