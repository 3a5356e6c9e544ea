"""The list of the dashboard: who needs attention, what a filter takes, and how rates become a line."""

from typing import Any

import pytest

from modeldeploy.dashboard.view.pods import Event, Pod
from modeldeploy.dashboard.view.rates import KEPT, Rate, Ring, rate_between, sparkline
from modeldeploy.dashboard.view.rows import Filter, row_of, totals_of
from modeldeploy.dashboard.view.summary import Rank, Summary

STEPS = [{"setWeight": 20}, {"pause": {"duration": "5m"}}, {"pause": {}}]


def body(name: str = "fraud", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "risk",
            "generation": 1,
            "creationTimestamp": "2026-05-01T12:00:00Z",
            "labels": {"team": "risk", "tier": "1"},
        },
        "spec": {"strategy": {"canary": {"steps": STEPS}}},
        "status": {"observedGeneration": 1, "phase": "Healthy", **status},
    }


def rolling(**more: Any) -> dict[str, Any]:
    return body(**{"stableRevision": "5c1a", "canaryRevision": "6f8d", "phase": "Paused", **more})


BAD_INPUTS = [{"type": "DataQuality", "status": "False", "reason": "OutOfRange", "message": "age is 100 times larger"}]
STALLED = [{"type": "Stalled", "status": "True", "reason": "InvalidSpec", "message": "it cannot be"}]
FAILURES = [{"revision": "6f8d", "reason": "ArtifactNotFound", "message": "it is not there"}]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param(body(), [], id="a healthy model needs nobody"),
        pytest.param(body(phase="Degraded"), ["Degraded"], id="a degraded one does"),
        pytest.param(
            body(phase="Degraded", abortedRevision="6f8d", podFailures=FAILURES), ["Aborted"], id="an aborted one, once"
        ),
        pytest.param(rolling(phase="RollingBack"), ["Rolling back"], id="one that goes back"),
        pytest.param(body(phase="Pending", conditions=STALLED), ["Stalled"], id="a stalled one"),
        pytest.param(
            rolling(currentStepIndex=2, pauseConditions=[{"reason": "PauseStep"}]),
            ["Waits for a person"],
            id="a pause without a duration waits for a person",
        ),
        pytest.param(
            rolling(currentStepIndex=1, pauseConditions=[{"reason": "PauseStep"}]),
            [],
            id="a pause with a duration ends by itself",
        ),
        pytest.param(
            rolling(pauseConditions=[{"reason": "RouterMissing"}]), [], id="a pause that ends with its cause, too"
        ),
        pytest.param(
            rolling(pauseConditions=[{"reason": "AnalysisInconclusive"}]),
            ["Waits for a person"],
            id="an undecided analysis waits for a person",
        ),
        pytest.param(rolling(phase="Progressing", podFailures=FAILURES), ["Pods fail"], id="pods that fail"),
        pytest.param(body(conditions=BAD_INPUTS), ["Bad inputs"], id="requests unlike the training data"),
        pytest.param(body(retraining={"reason": "age has drifted"}), ["Needs training"], id="a model to train again"),
    ],
)
def test_who_needs_attention(given: dict[str, Any], words: list[str]) -> None:
    assert [one.word for one in Summary.from_body(given).attention] == words


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({"weights": "many"}, id="another type"),
        pytest.param({"history": [{"when": 1}]}, id="a field that is missing"),
        pytest.param({"stepStartedAt": "noon"}, id="no time"),
    ],
)
def test_an_object_of_a_newer_version_is_a_row_that_says_so(status: dict[str, Any]) -> None:
    summary = Summary.from_body(body(**status))
    assert (summary.name, summary.attention[0].rank) == ("fraud", Rank.UNREADABLE)
    assert "upgrade modeldeploy" in summary.problem


def test_an_unknown_strategy_and_phase_are_shown_as_they_are() -> None:
    given = body(phase="Thinking")
    given["spec"]["strategy"] = {"shadowBoxing": {}}
    summary = Summary.from_body(given)
    assert (summary.phase, summary.strategy) == ("Thinking", "shadowBoxing")


def pod(name: str, revision: str, *, is_ready: bool) -> Pod:
    condition = {"type": "Ready", "status": "True" if is_ready else "False"}
    labels = {"modeldeploy.dev/name": "fraud", "modeldeploy.dev/revision": revision}
    metadata = {"name": name, "namespace": "risk", "labels": labels}
    return Pod.from_body({"metadata": metadata, "status": {"phase": "Running", "conditions": [condition]}})


def test_a_row_counts_the_ready_pods_of_each_revision() -> None:
    pods = [pod("a", "5c1a", is_ready=True), pod("b", "5c1a", is_ready=False), pod("c", "6f8d", is_ready=True)]
    row = row_of(Summary.from_body(rolling()), pods, None)
    assert [(one.role, one.ready, one.pods) for one in row.revisions] == [("stable", 1, 2), ("canary", 1, 1)]


def test_rows_are_ordered_by_need_and_then_by_name() -> None:
    bodies = [body("b"), body("a"), body("z", phase="Degraded"), body("y", podFailures=FAILURES)]
    rows = sorted((row_of(Summary.from_body(one), [], None) for one in bodies), key=lambda row: row.sort)
    assert [row.summary.name for row in rows] == ["z", "y", "a", "b"]
    totals = totals_of(rows)
    assert (totals.all, totals.attention, totals.healthy) == (4, 2, 2)


@pytest.mark.parametrize(
    ("chosen", "is_taken"),
    [
        pytest.param(Filter(), True, id="nothing limits nothing"),
        pytest.param(Filter(name=" FRA "), True, id="a part of the name in any case"),
        pytest.param(Filter(name="churn"), False, id="another name"),
        pytest.param(Filter(namespace="ris"), False, id="a namespace is whole"),
        pytest.param(Filter(phase="Healthy"), True, id="the phase"),
        pytest.param(Filter(phase="Attention"), False, id="attention that is not needed"),
        pytest.param(Filter(label="team"), True, id="a label that is there"),
        pytest.param(Filter(label="team=risk"), True, id="a label with its value"),
        pytest.param(Filter(label="team="), False, id="an empty value is a value"),
        pytest.param(Filter(label="owner"), False, id="a label that is not there"),
    ],
)
def test_what_a_filter_takes(chosen: Filter, is_taken: bool) -> None:
    assert chosen.takes(row_of(Summary.from_body(body()), [], None)) is is_taken


@pytest.mark.parametrize(
    ("before", "after", "rate"),
    [
        pytest.param({"a": (10, 1)}, {"a": (30, 3)}, Rate(2, 0.2), id="growth over the time"),
        pytest.param({"a": (10, 1)}, {"a": (5, 0)}, Rate(0.5, 0), id="a pod that has started again counts from 0"),
        pytest.param({"a": (10, 1)}, {"a": (10, 1), "b": (90, 9)}, Rate(0, 0), id="a new pod counts from now on"),
        pytest.param({"a": (10, 1)}, {}, Rate(0, 0), id="a pod that has gone counts no more"),
    ],
)
def test_counters_become_rates(before: Any, after: Any, rate: Rate) -> None:
    assert rate_between(before, after, 10) == rate


def test_a_ring_keeps_the_last_minutes_and_draws_them() -> None:
    ring = Ring()
    for second in range(3 * KEPT):
        ring.add({"a": (float(second**2), 0.0)}, [], at=float(second))
    assert len(ring.rates) == KEPT
    drawn = sparkline(list(ring.rates))
    assert drawn is not None
    assert drawn.requests.count("L") == KEPT - 1
    assert drawn.errors == ""
    assert sparkline([Rate(1, 0)]) is None


def test_drifted_inputs_need_attention_by_name() -> None:
    ring = Ring()
    ring.add({}, ["age", "amount", "hour", "zip"], at=1.0)
    row = row_of(Summary.from_body(body()), [], ring)
    assert row.attention[0].message == "Inputs differ from the reference: age, amount, hour and 1 more."


def test_control_characters_of_a_cluster_are_shown() -> None:
    given = {"metadata": {"name": "a.1", "namespace": "risk"}, "message": "\x1b[31mred", "type": "Warning"}
    assert Event.from_body(given).message == "^[[31mred"
