"""The tests of inputs: requests of one client depend on each other, and a canary is not failed for its clients."""

import json
from typing import Any

import numpy as np
import pytest

from model_operator.api.analysis import OF_INPUTS, Metric, parse_analysis
from model_operator.api.inputs import InputSample
from model_operator.api.values import replace
from model_operator.clients.metrics_page import Sample
from model_operator.observation.values import Outcome
from model_operator.policy.analysis.input_test import InputState, InputTest
from model_operator.policy.analysis.interval_spread import Counts
from model_operator.policy.analysis.state import AnalysisState, count, from_status, update, verdict
from model_operator.policy.status.analysis_status import metric_entries

FAIL_AT = 20.0
METRIC = Metric(name="data-quality", fail_drop=0.05, pass_drop=0.05)


def seen(rng: np.random.Generator, canary: float, stable: float, *, of_client: int = 1) -> Counts:
    """About 100 requests of each revision; those of one client go to one revision, and are all bad or all good."""
    clients = 100 // of_client
    bad = rng.binomial(clients, canary), rng.binomial(clients, stable)
    return Counts(
        canary=clients * of_client,
        canary_bad=int(bad[0]) * of_client,
        stable=clients * of_client,
        stable_bad=int(bad[1]) * of_client,
    )


def first_outcome(seed: int, canary: float, stable: float, *, of_client: int = 1, looks: int = 40) -> Outcome:
    rng, test, state = np.random.default_rng(seed), InputTest(METRIC, FAIL_AT), InputState()
    for _ in range(looks):
        state = test.update(state, seen(rng, canary, stable, of_client=of_client))
        if (found := test.verdict(state)) is not Outcome.UNDECIDED:
            return found
    return Outcome.UNDECIDED


@pytest.mark.parametrize(
    ("canary", "stable", "of_client"),
    [
        pytest.param(0.07, 0.02, 1, id="at the margin"),
        pytest.param(0.05, 0.0, 1, id="at the margin, and stable has none"),
        pytest.param(0.1, 0.1, 20, id="bad clients that stay with a revision"),
    ],
)
def test_a_canary_within_the_margin_is_hardly_ever_failed_however_often_it_is_looked_at(
    canary: float, stable: float, of_client: int
) -> None:
    failed = [first_outcome(seed, canary, stable, of_client=of_client) for seed in range(200)].count(Outcome.FAIL)
    assert failed / 200 <= 1 / FAIL_AT


def test_a_canary_to_which_more_requests_are_strange_fails() -> None:
    assert {first_outcome(seed, 0.3, 0.05) for seed in range(20)} == {Outcome.FAIL}


def test_a_difference_that_is_shown_to_be_small_passes() -> None:
    found = [first_outcome(seed, 0.05, 0.05) for seed in range(20)]
    assert found.count(Outcome.PASS) >= 19


def test_one_burst_is_no_difference() -> None:
    test, state = InputTest(METRIC, FAIL_AT), InputState()
    for _ in range(20):
        state = test.update(state, Counts(canary=100, stable=100))
    state = test.update(state, Counts(canary=100_000, canary_bad=100_000, stable=100_000))
    assert test.verdict(state) is Outcome.UNDECIDED
    assert state.spread.intervals < 2
    assert test.message(state).endswith("needs about 7 more intervals for a verdict")


@pytest.mark.parametrize(("name", "bad"), [("data-quality", 9), ("outliers", 4)])
def test_each_metric_counts_its_own_requests(name: str, bad: int) -> None:
    spec = parse_analysis({"metrics": [{"name": name, "fail": {}}]})
    before = Sample(model=None, requests=0, errors=0, inputs=InputSample(requests=100, bad=1, outliers=1))
    after = replace(before, inputs=InputSample(requests=200, bad=10, outliers=5))
    assert count(spec, AnalysisState(), before, after, is_canary=True) == {name: Counts(canary=100, canary_bad=bad)}
    older = replace(before, inputs=None)
    assert count(spec, AnalysisState(), older, after, is_canary=True) == {}


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        pytest.param(Counts(), "data-quality: the canary has compared no request", id="no requests"),
        pytest.param(Counts(canary=5), "data-quality: the stable has compared no request", id="none of stable"),
        pytest.param(
            Counts(canary=50, canary_bad=5, stable=100, stable_bad=1),
            "data-quality: canary 5 of 50 (10.00%), stable 1 of 100 (1.00%), E 1 of 20, needs about 7 more intervals",
            id="a first interval",
        ),
    ],
)
def test_the_message_says_what_is_lacking(counts: Counts, message: str) -> None:
    test = InputTest(METRIC, FAIL_AT)
    assert test.message(test.update(InputState(), counts)).startswith(message)


def test_evidence_survives_a_restart() -> None:
    metrics: list[dict[str, Any]] = [{"name": "data-quality", "fail": {}}, {"name": "outliers", "fail": {}, "pass": {}}]
    spec, rng, state = parse_analysis({"metrics": metrics}), np.random.default_rng(3), AnalysisState()
    for _ in range(10):
        state = update(spec, state, {name: seen(rng, 0.1, 0.01) for name in OF_INPUTS})
    entries = json.loads(json.dumps(metric_entries(spec, verdict(spec, state)), sort_keys=True))
    assert from_status(spec, {"metrics": entries}) == state
    assert entries[0]["badRate"]["canary"] > 0.05
    assert [metric.fail_drop for metric in spec.metrics] == [0.05, 0.05]
