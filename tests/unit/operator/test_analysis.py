"""From counters to a verdict: thresholds, shares of alpha, and what status remembers."""

import json
import math
from datetime import timedelta
from typing import Any

import pytest

from model_operator.api.analysis import OnInconclusive, parse_analysis
from model_operator.api.values import replace
from model_operator.clients.metrics_page import Sample
from model_operator.errors import InvalidSpec
from model_operator.observation.values import Outcome
from model_operator.policy.analysis.interval_spread import Counts
from model_operator.policy.analysis.rate_test import RateState
from model_operator.policy.analysis.registry import fail_evidence, metric_tests
from model_operator.policy.analysis.state import AnalysisState, calibrate, count, from_status, rule_of, update, verdict
from model_operator.policy.status.analysis_status import metric_entries

RAW: dict[str, Any] = {
    "interval": "15s",
    "warmup": "30s",
    "alpha": 0.05,
    "onInconclusive": "Abort",
    "metrics": [
        {"name": "errors", "fail": {"ratioMargin": 1.25}, "pass": {"ratioMargin": 2, "orMax": 0.01}},
        {"name": "latency", "slowerThan": "200ms", "fail": {"ratioMargin": 1.25}},
    ],
}
SPEC = parse_analysis(RAW)
EDGES = (0.1, 0.25, 0.5, math.inf)
SLOW = AnalysisState({"latency": RateState(threshold=0.25)})


def durations(*counts: int) -> dict[float, int]:
    """Cumulative counts up to each edge."""
    return dict(zip(EDGES, counts, strict=True))


def test_a_block_is_read_as_it_is_written() -> None:
    assert SPEC.interval == timedelta(seconds=15)
    assert SPEC.warmup == timedelta(seconds=30)
    assert SPEC.on_inconclusive is OnInconclusive.ABORT
    assert [test.can_pass for test in metric_tests(SPEC)] == [True, False, False]


def test_alpha_is_shared_out_over_the_metrics() -> None:
    assert fail_evidence(SPEC) == pytest.approx(60)
    assert fail_evidence(parse_analysis({**RAW, "metrics": RAW["metrics"][1:]})) == pytest.approx(20)


def test_an_unknown_name_lists_those_that_are_known() -> None:
    known = "the built-in metrics are errors, .*, shadow-distance"
    with pytest.raises(InvalidSpec, match=f"'acuracy' is unknown; {known}"):
        parse_analysis({**RAW, "metrics": [*RAW["metrics"], {"name": "acuracy", "min": 0.9}]})


@pytest.mark.parametrize(
    ("slower_than", "edge"),
    [
        pytest.param(timedelta(milliseconds=200), 0.25, id="the edge above"),
        pytest.param(timedelta(milliseconds=250), 0.25, id="the edge itself"),
        pytest.param(timedelta(seconds=9), 0.5, id="the last edge, when there is none above"),
        pytest.param(None, 0.25, id="the edge above the 99th percentile of stable"),
    ],
)
def test_slow_means_above_an_edge_of_the_histogram(slower_than: timedelta | None, edge: float) -> None:
    spec = replace(SPEC, metrics=(replace(SPEC.metrics[2], slower_than=slower_than),))
    knowledge = calibrate(spec, AnalysisState(), durations(900, 995, 1000, 1000))
    assert knowledge == AnalysisState({"latency": RateState(threshold=edge)})
    assert calibrate(spec, knowledge, durations(0, 0, 0, 10)) is knowledge, "it is frozen"


def test_stable_without_answers_sets_no_threshold() -> None:
    assert calibrate(SPEC, AnalysisState(), durations(0, 0, 0, 0)) == AnalysisState()


def test_two_looks_at_a_server_make_counts() -> None:
    knowledge = SLOW
    before = Sample(model=None, requests=10, errors=1, durations=durations(8, 9, 10, 10))
    after = Sample(model=None, requests=110, errors=6, durations=durations(60, 80, 105, 110))
    counted = count(SPEC, knowledge, before, after, is_canary=True)
    assert counted == {"errors": Counts(canary=100, canary_bad=5), "latency": Counts(canary=100, canary_bad=29)}


def test_refusals_are_counted_where_both_samples_have_them() -> None:
    before = Sample(model=None, requests=10, errors=0, refusals=2)
    after = Sample(model=None, requests=110, errors=0, refusals=32)
    assert count(SPEC, SLOW, before, after, is_canary=True)["refusals"] == Counts(canary=100, canary_bad=30)
    assert "refusals" not in count(SPEC, SLOW, replace(before, refusals=None), after, is_canary=True)


_OWN = {"name": "refusals", "max": 0.2, "pass": {"orMax": 0.1}}
_GUARD = {"name": "refusals", "prometheus": {"address": "http://prometheus:9090", "query": "a"}, "max": 5}


@pytest.mark.parametrize(
    ("metrics", "names", "ratio"),
    [
        pytest.param([{"name": "errors", "fail": {"ratioMargin": 3}}], ["errors", "refusals"], 3, id="beside errors"),
        pytest.param([{"name": "errors", "max": 0.02}], ["errors"], None, id="not beside a bound alone"),
        pytest.param([{"name": "latency", "fail": {}}], ["latency"], None, id="not without errors"),
        pytest.param([{"name": "errors", "fail": {}}, _OWN], ["errors", "refusals"], None, id="as the spec says"),
        pytest.param([{"name": "errors", "fail": {}}, _GUARD], ["errors", "refusals"], None, id="a guard of that name"),
    ],
)
def test_refusals_are_judged_beside_errors(metrics: list[Any], names: list[str], ratio: float | None) -> None:
    spec = parse_analysis({**RAW, "metrics": metrics})
    assert [metric.name for metric in spec.metrics] == names
    assert spec.metrics[-1].fail_ratio == (ratio if names[-1:] == ["refusals"] else spec.metrics[-1].fail_ratio)


def test_a_canary_that_refuses_what_stable_answers_fails_before_its_errors_pass() -> None:
    knowledge = SLOW
    for intervals in range(1, 9):
        interval = {
            "errors": Counts(canary=900, stable=900),
            "refusals": Counts(canary=900, canary_bad=900, stable=900, stable_bad=9),
        }
        knowledge = update(SPEC, knowledge, interval)
        found = verdict(SPEC, knowledge)
        assert found.message.startswith(f"refusals: canary {900 * intervals} of {900 * intervals} (100.00%)")
        if found.outcome is not Outcome.UNDECIDED:
            break
        assert found.message.endswith("more intervals: they may be those of one client")
    assert found.outcome is Outcome.FAIL


def test_refusals_of_one_client_do_not_hold_up_what_many_intervals_show() -> None:
    knowledge, quiet = SLOW, Counts(canary=900, stable=900)
    burst = Counts(canary=900, canary_bad=300, stable=900)
    for number in range(10):
        knowledge = update(SPEC, knowledge, {"errors": quiet, "refusals": quiet if number else burst})
        expected = Outcome.UNDECIDED if number < 7 else Outcome.PASS
        assert verdict(SPEC, knowledge).outcome is expected


def test_a_slow_canary_fails_although_it_makes_no_errors() -> None:
    knowledge = SLOW
    for _ in range(4):
        interval = {
            "errors": Counts(canary=100, stable=300),
            "latency": Counts(canary=100, canary_bad=60, stable=300, stable_bad=6),
        }
        knowledge = update(SPEC, knowledge, interval)
    found = verdict(SPEC, knowledge)
    assert found.outcome is Outcome.FAIL
    assert found.message.startswith("latency above 250 ms: canary 240 of 400 (60.00%), stable 24 of 1200 (2.00%)")


def test_a_metric_that_cannot_pass_does_not_hold_the_others_up() -> None:
    knowledge = update(SPEC, AnalysisState(), {"errors": Counts(canary=900, stable=900)})
    assert verdict(SPEC, knowledge).outcome is Outcome.PASS


def test_status_remembers_to_the_last_bit() -> None:
    interval = {
        "errors": Counts(canary=93, canary_bad=2, stable=771, stable_bad=5),
        "refusals": Counts(canary=93, canary_bad=1, stable=771, stable_bad=9),
        "latency": Counts(canary=93, canary_bad=4, stable=771, stable_bad=30),
    }
    knowledge = update(SPEC, SLOW, interval)
    written = json.loads(json.dumps({"metrics": metric_entries(SPEC, verdict(SPEC, knowledge))}))
    assert from_status(SPEC, written) == knowledge


def test_a_rule_does_not_depend_on_the_specs_that_were_read_before() -> None:
    whole, broken = (
        parse_analysis({"metrics": [{"name": "errors", "fail": {"ratioMargin": margin}}]}).metrics[0]
        for margin in (3, 3.0)
    )
    assert whole == broken
    assert rule_of(whole) != rule_of(broken)


def test_evidence_by_another_rule_is_forgotten() -> None:
    knowledge = update(SPEC, AnalysisState(), {"errors": Counts(canary=93, canary_bad=2, stable=771)})
    written = {"metrics": metric_entries(SPEC, verdict(SPEC, knowledge))}
    errors, *others = SPEC.metrics
    stricter = replace(SPEC, metrics=(replace(errors, fail_ratio=2.0), *others))
    assert "errors" not in from_status(stricter, written).metrics
