"""The tests of quality by group: honest however often they are looked at, and sharp where it is worse for somebody."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from model_operator.api.analysis import OF_GROUPS, Metric, parse_analysis
from model_operator.api.sums import SliceCounts
from model_operator.clients.metrics_page import parse
from model_operator.observation.values import Outcome
from model_operator.policy.analysis.fairness_test import FairnessState, FairnessTest, GroupCounts, closeness, excess
from model_operator.policy.analysis.registry import metric_test
from model_operator.policy.analysis.state import AnalysisState, from_status, update, verdict
from model_operator.policy.status.analysis_status import metric_entries

FAIL_AT = 20.0
#: Rates of positive labels, true positives and false positives, by group.
Rates = Mapping[str, tuple[float, float, float]]
FAIR: Rates = {"a": (0.5, 0.8, 0.2), "b": (0.3, 0.8, 0.2)}
#: The differences of selection, of opportunity and of both rates are exactly 0.1 here: the edge of the null hypothesis.
EDGE: Rates = {"a": (0.5, 0.8, 0.2), "b": (0.5, 0.7, 0.1), "c": (0.5, 0.75, 0.15)}
UNFAIR: Rates = {"a": (0.5, 0.9, 0.1), "b": (0.5, 0.3, 0.1)}


def drawn(rng: np.random.Generator, rates: Rates, labels: int = 30) -> Mapping[str, SliceCounts]:
    found = {}
    for group, (positive, tpr, fpr) in rates.items():
        yes = int(rng.binomial(labels, positive))
        tp, fp = int(rng.binomial(yes, tpr)), int(rng.binomial(labels - yes, fpr))
        said = tp + fp
        found[group] = SliceCounts(
            tp=tp, fn=yes - tp, fp=fp, tn=labels - yes - fp, positive=said, negative=labels - said
        )
    return found


def metric(name: str) -> Metric:
    return Metric(name=name, fail_drop=0.0) if name == "group-accuracy" else Metric(name=name, maximum=0.1)


def first_outcome(
    name: str, seed: int, canary: Rates, stable: Rates = FAIR, looks: int = 40, labels: int = 30
) -> Outcome:
    """The first verdict of a rollout that is looked at after each interval."""
    rng, test, state = np.random.default_rng(seed), FairnessTest(metric(name), FAIL_AT), FairnessState()
    for _ in range(looks):
        state = test.update(state, GroupCounts(canary=drawn(rng, canary, labels), stable=drawn(rng, stable, labels)))
        if (found := test.verdict(state)) is not Outcome.UNDECIDED:
            return found
    return Outcome.UNDECIDED


def is_ever_failed(name: str, seed: int, canary: Rates, stable: Rates) -> bool:
    rng, test, state = np.random.default_rng(seed), FairnessTest(metric(name), FAIL_AT), FairnessState()
    for _ in range(20):
        state = test.update(state, GroupCounts(canary=drawn(rng, canary, 60), stable=drawn(rng, stable, 60)))
        if test.fail_evidence(state) >= FAIL_AT:
            return True
    return False


@pytest.mark.parametrize("name", OF_GROUPS)
def test_a_canary_at_its_bound_is_hardly_ever_failed_however_often_it_is_looked_at(name: str) -> None:
    rates = (EDGE, EDGE) if name == "group-accuracy" else (EDGE, FAIR)
    failed = sum(is_ever_failed(name, seed, *rates) for seed in range(60))
    assert failed / 60 <= 1 / FAIL_AT


@pytest.mark.parametrize("name", OF_GROUPS)
def test_a_canary_that_is_worse_for_one_group_fails(name: str) -> None:
    found = [first_outcome(name, seed, UNFAIR, {"a": (0.5, 0.9, 0.1), "b": (0.5, 0.9, 0.1)}) for seed in range(5)]
    assert found.count(Outcome.FAIL) == 5


@pytest.mark.parametrize("name", [name for name in OF_GROUPS if name != "group-accuracy"])
def test_a_difference_that_is_shown_to_be_small_passes(name: str) -> None:
    same: Rates = {"a": (0.5, 0.8, 0.2), "b": (0.5, 0.8, 0.2)}
    found = [first_outcome(name, seed, same, looks=8, labels=600) for seed in range(3)]
    assert found.count(Outcome.PASS) == 3


@pytest.mark.parametrize("test", [lambda k, n: excess([k, n], 0.1), lambda k, n: closeness(k, n, 0.1)])
def test_evidence_is_none_without_answers_of_a_second_group(test: Callable[..., float]) -> None:
    assert test((1, 1), (1, 1)) <= 2


def test_the_message_says_what_is_lacking_of_whom() -> None:
    test = FairnessTest(metric("equal-opportunity-difference"), FAIL_AT)
    counts = {"f": SliceCounts(tp=3, fn=2), "m": SliceCounts(tp=80, fn=20)}
    message = test.message(test.update(test.start(), GroupCounts(canary=counts)))
    assert message.startswith("equal-opportunity-difference: f 0.6000 of 5, m 0.8000 of 100")
    assert message.endswith(" more labels of f")
    assert "a slice is an input feature, or a key of groups" in test.message(test.start())


def test_evidence_survives_a_restart() -> None:
    metrics: list[dict[str, Any]] = [
        {"name": "group-accuracy", "fail": {}, "slice": "sex"},
        {"name": "equalized-odds-difference", "max": 0.1},
    ]
    spec, rng = parse_analysis({"metrics": metrics}), np.random.default_rng(3)
    counts = GroupCounts(canary=drawn(rng, UNFAIR), stable=drawn(rng, FAIR))
    state = update(spec, AnalysisState(), {name["name"]: counts for name in metrics})
    entries = json.loads(json.dumps(metric_entries(spec, verdict(spec, state)), sort_keys=True))
    assert from_status(spec, {"metrics": entries}) == state
    assert entries[0]["groups"].keys() == {"a", "b"}
    assert entries[0]["groups"]["a"].keys() == {"value", "answers", "stableValue", "stableAnswers"}
    assert entries[1]["groups"]["a"].keys() == {"value", "answers"}, "stable is not compared"


PAGE = """
modeldeploy_slice_answers_total{group="f",label="positive",model="m",prediction="positive",slice="sex"} 3.0
modeldeploy_slice_answers_total{group="f",label="any",model="m",prediction="wrong",slice="sex"} -7
modeldeploy_slice_answers_total{group="f",label="x",model="m",prediction="y",slice="sex"} 5
modeldeploy_slice_predictions_total{group="f",model="m",prediction="negative",slice="sex"} 1e300
modeldeploy_slice_predictions_total{group="%s",model="m",prediction="negative",slice="sex"} 4
""" % ("x" * 1000)


def test_a_page_of_a_hostile_pod_is_bounded() -> None:
    many = "\n".join(PAGE.splitlines()[1].replace('"f"', f'"{n}"') for n in range(1000))
    assert parse(PAGE).slices == {("sex", "f"): SliceCounts(tp=3, negative=2.0**53)}
    assert len(parse(f"\n{many}").slices) == 132
    test = metric_test(metric("selection-rate-difference"), FAIL_AT)
    state = FairnessState(canary={"f": SliceCounts(negative=2.0**53), "m": SliceCounts(positive=2.0**53)})
    assert test.verdict(state) is Outcome.FAIL


def test_counts_of_a_group_are_what_came_between_two_samples_of_the_slice() -> None:
    test = FairnessTest(Metric(name="equal-opportunity-difference", maximum=0.1, slice="sex"), FAIL_AT)
    before, after = parse(PAGE), parse(PAGE.replace(" 3.0", " 5.0").replace('"f"', '"f"'))
    counts = test.count(test.start(), before, after, is_canary=True)
    assert counts == GroupCounts(canary={"f": SliceCounts(tp=2)})
