"""Replays: when the step asks, and what the counts decide; false alarms of the gate are as rare as promised."""

import random
from datetime import timedelta
from typing import Any

import pytest

from model_operator.api.replay import ReplayCounts, ReplayFault, ReplayTimes
from model_operator.api.resource import ModelDeployment
from model_operator.api.status import Phase, Rollback
from model_operator.api.steps import Replay
from model_operator.api.sums import SumStats
from model_operator.api.values import replace
from model_operator.observation.values import Observed, ReplayView
from model_operator.policy.analysis.binomial import lower_tail, trials_needed, upper_tail
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.rollout.replay import (
    REPLAY_PATIENCE,
    ReplayResult,
    is_recording,
    is_sample_due,
    replay,
    requests_ahead,
)
from model_operator.policy.status.events import EventDraft, events
from model_operator.testing import VirtualClock

NOW = VirtualClock().now()
AGREEMENT = {"agreement": {"min": 0.98}}
ALL = {**AGREEMENT, "distance": {"max": 0.05, "relative": True}, "latency": {"maxRatio": 1.5}}


def situation(
    step: dict[str, Any], view: ReplayView | None = None, *, waited: timedelta = timedelta(0), **status: Any
) -> RolloutContext:
    """A canary in its replay, of which so much is known."""
    body = {
        "metadata": {"name": "fraud", "namespace": "ns", "uid": "u", "generation": 1, "resourceVersion": "1"},
        "spec": {
            "model": {"storageUri": "s3://m/1"},
            "strategy": {"canary": {"steps": [{"replay": step}, {"setWeight": 50}]}},
        },
        "status": {
            "phase": "Progressing",
            "stableRevision": "old",
            "canaryRevision": "new",
            "stepStartedAt": (NOW - waited).isoformat(),
            **status,
        },
    }
    resource = ModelDeployment.from_body(body)
    resource = type(resource)(**{**{n: getattr(resource, n) for n in resource.__slots__}, "target": "new"})
    observed = Observed(replay=view or ReplayView())
    return RolloutContext(resource=resource, status=resource.status, observed=observed, now=NOW)


def judged(step: dict[str, Any], counts: ReplayCounts) -> ReplayResult:
    return of(situation(step, ReplayView(recorded=500, counts=counts)))


def of(s: RolloutContext) -> ReplayResult:
    step = s.current_step
    assert isinstance(step, Replay)
    return replay(s, step)


def counts(agreed: int, total: int = 500, **more: Any) -> ReplayCounts:
    return ReplayCounts(requests=total, agreed=agreed, **more)


@pytest.mark.parametrize(
    ("found", "phase"),
    [
        pytest.param(counts(500), "Passed", id="all agree"),
        pytest.param(counts(496), "Passed", id="surely above"),
        pytest.param(counts(492), "Inconclusive", id="above, and not surely"),
        pytest.param(counts(486), "Inconclusive", id="below, and not surely"),
        pytest.param(counts(480), "Failed", id="surely below"),
        pytest.param(counts(100, 100), "Inconclusive", id="a small sample proves nothing"),
        pytest.param(counts(0, 0), "Inconclusive", id="no answers are no verdict"),
        pytest.param(counts(450, refused=50), "Failed", id="refusals are disagreement"),
    ],
)
def test_counts_decide(found: ReplayCounts, phase: str) -> None:
    assert judged(AGREEMENT, found).phase == phase


@pytest.mark.parametrize(
    ("more", "phase", "metric"),
    [
        pytest.param({"slower": 250}, "Inconclusive", "latency", id="half of the answers too slow"),
        pytest.param({"slower": 200}, "Passed", "", id="most answers in time"),
        pytest.param({"slower": 300}, "Failed", "latency", id="most answers too slow"),
        pytest.param({"distance": SumStats(count=500, total=50.0, squares=6.0)}, "Failed", "distance", id="far away"),
        pytest.param({"distance": SumStats()}, "Inconclusive", "distance", id="no numbers have no distance"),
    ],
)
def test_each_limit_decides(more: dict[str, Any], phase: str, metric: str) -> None:
    near = {"distance": SumStats(count=500, total=1.0, squares=0.01), "slower": 0}
    result = judged(ALL, counts(500, timed=500, **{**near, **more}))
    assert result.phase == phase
    assert result.message.startswith(metric)


def test_the_message_has_the_numbers_and_what_is_refused() -> None:
    found = counts(450, refused=12, faults=(ReplayFault(feature="age", count=12),))
    assert judged(AGREEMENT, found).message == (
        "agreement: 450 of 500 requests (90.00%), at least 0.98 required; the new revision refuses 12: age (12)"
    )
    few = judged(AGREEMENT, counts(100, 100)).message
    assert few == "agreement: 100 of 100 requests (100.00%), at least 0.98 required, needs about 49 more requests"
    slow = counts(
        500, timed=500, slower=400, stable=ReplayTimes(median=0.001, p95=0.002), canary=ReplayTimes(median=0.003, p95=1)
    )
    assert judged({"latency": {"maxRatio": 1.5}}, slow).message == (
        "latency: median 3 ms (p95 1e+03 ms), stable 1 ms (p95 2 ms); 400 of 500"
        " answers took more than 1.5 times as long"
    )


def test_the_table_in_status_has_each_limit() -> None:
    found = judged(ALL, counts(480, timed=500, slower=0)).to_status()
    assert [(metric["name"], metric["verdict"]) for metric in found["metrics"]] == [
        ("agreement", "Fail"),
        ("distance", "Undecided"),
        ("latency", "Pass"),
    ]
    assert (found["phase"], found["requests"], found["step"]) == ("Failed", 500, 0)


MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("view", "waited", "phase", "message"),
    [
        pytest.param(None, MINUTE, "Running", "0 of 500 requests recorded", id="nothing is known yet"),
        pytest.param(
            ReplayView(recorded=212), MINUTE, "Running", "212 of 500 requests recorded", id="the sample is not full"
        ),
        pytest.param(
            ReplayView(recorded=3, problem="it answered 500"),
            MINUTE,
            "Running",
            "3 of 500 requests recorded: it answered 500",
            id="a problem is told, and tried again",
        ),
        pytest.param(
            ReplayView(recorded=0),
            15 * MINUTE,
            "Inconclusive",
            "no result: stable answered no requests within 15m",
            id="nobody asks stable",
        ),
        pytest.param(
            ReplayView(problem="no pod is ready"),
            15 * MINUTE,
            "Inconclusive",
            "no result: no pod is ready",
            id="stable cannot be asked",
        ),
        pytest.param(
            ReplayView(recorded=7),
            15 * MINUTE,
            "Running",
            "7 of 500 requests recorded",
            id="a few are replayed at the end",
        ),
        pytest.param(
            ReplayView(recorded=7, problem="it answered 500"),
            15 * MINUTE + REPLAY_PATIENCE,
            "Inconclusive",
            "no result: it answered 500",
            id="nothing waits for ever",
        ),
    ],
)
def test_a_replay_without_counts(view: ReplayView | None, waited: timedelta, phase: str, message: str) -> None:
    found = of(situation(AGREEMENT, view, waited=waited))
    assert (found.phase, found.message) == (phase, message)


@pytest.mark.parametrize(
    ("recorded", "waited", "is_due"),
    [
        pytest.param(500, timedelta(0), True, id="a full sample at once"),
        pytest.param(499, 14 * MINUTE, False, id="one too few before the end"),
        pytest.param(1, 15 * MINUTE, True, id="what there is at the end"),
        pytest.param(0, 16 * MINUTE, False, id="nothing never"),
    ],
)
def test_when_the_sample_is_due(recorded: int, waited: timedelta, is_due: bool) -> None:
    s = situation(AGREEMENT, waited=waited)
    assert isinstance(s.current_step, Replay)
    assert is_sample_due(s, s.current_step, recorded) is is_due


@pytest.mark.parametrize(
    ("status", "size"),
    [
        pytest.param({}, 500, id="in the step"),
        pytest.param({"currentStepIndex": 1}, 0, id="after it"),
        pytest.param({"mode": "Rescue"}, 0, id="a stable revision that serves nobody has no requests"),
        pytest.param({"mode": "Fast"}, 0, id="an undo has no steps"),
    ],
)
def test_requests_are_kept_for_steps_ahead_alone(status: dict[str, Any], size: int) -> None:
    s = situation(AGREEMENT, **status)
    assert (requests_ahead(s), is_recording(s)) == (size, size > 0)


def test_the_first_revision_has_nothing_to_compare_with() -> None:
    assert not is_recording(situation(AGREEMENT, canaryRevision="", phase="Pending"))


@pytest.mark.parametrize("share", [0.5, 0.9, 0.98])
def test_tails_are_those_of_the_binomial_distribution(share: float) -> None:
    total = 200
    for successes in (0, 1, 100, 180, 196, 200):
        below, above = lower_tail(successes, total, share), upper_tail(successes + 1, total, share)
        assert below + above == pytest.approx(1.0)
    assert upper_tail(total, total, share) == pytest.approx(share**total)
    assert trials_needed(1.0, 0.98, 0.05) == 149
    assert trials_needed(0.97, 0.98, 0.05) is None


@pytest.mark.parametrize("minimum", [0.9, 0.98, 0.995])
def test_false_alarms_are_at_most_alpha(minimum: float) -> None:
    """1,000 candidates each of which is exactly at all limits, the worst that is still healthy."""
    chance, failed, passed, runs = random.Random(7), 0, 0, 1000
    step = {"agreement": {"min": minimum}, "distance": {"max": 0.05}, "latency": {"maxRatio": 1.5}}
    for _ in range(runs):
        distances = [chance.expovariate(1 / 0.05) for _ in range(500)]
        found = counts(
            sum(chance.random() < minimum for _ in range(500)),
            timed=500,
            slower=sum(chance.random() < 0.5 for _ in range(500)),
            distance=SumStats(count=500, total=sum(distances), squares=sum(one * one for one in distances)),
        )
        phase = judged(step, found).phase
        failed += phase == "Failed"
        passed += phase == "Passed"
    assert failed / runs <= 0.05
    assert passed / runs <= 0.05, "a candidate at a limit is seldom taken for one that is surely within it"
    print(f"min {minimum}: failed {failed}, passed {passed} of {runs}")


def test_a_canary_that_is_gone_in_the_same_pass_has_an_event_with_the_numbers() -> None:
    before = situation(AGREEMENT).status
    rollback = Rollback(reason="ReplayFailed", message="agreement: 100 of 500 requests")
    after = replace(before, phase=Phase.DEGRADED, canary="", aborted="new", rollback=rollback)
    assert list(events(before, after)) == [
        EventDraft("ReplayFailed", "new is being rolled back: agreement: 100 of 500 requests", is_warning=True)
    ]
    assert not list(events(after, after)), "and only once"
