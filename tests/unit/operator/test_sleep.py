"""When a model sleeps, and what wakes it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from decision_tables import BROKEN, LONG_AGO, NEW, NOW, OLD, observed, resource, view

from model_operator.api.status import HistoryEntry, Phase, Sleep, Status
from model_operator.api.values import replace
from model_operator.errors import InvalidSpec
from model_operator.observation.idleness import Idleness, observed_again
from model_operator.observation.values import ActivatorView, Observed
from model_operator.policy.decide import Decision, Standby, decide
from model_operator.policy.rollout.sleep import HANDOVER, check_schedules

IDLE = timedelta(minutes=15)
SCALING = {"minReplicas": 0, "maxReplicas": 3, "idleAfter": "15m"}
READY = ActivatorView(is_installed=True, port=20_000, endpoints=("10.0.0.7",))
#: NOW is a Thursday, at noon in UTC.
NOONS = [{"schedule": "0 13 * * 1-5", "timeZone": "Europe/Berlin", "for": "1h"}]
EVENINGS = [{"schedule": "0 20 * * *", "for": "1h"}]


def asked(
    status: Status, observation: Observed, *, model: str = "old", scaling: Any = SCALING, **spec: Any
) -> Decision:
    """Decide on a model that may sleep; a rollout has no router, so that pods are the split."""
    given = {**spec, "autoscaling": scaling} if scaling else {**spec, "replicas": 1}
    body = resource(status, model=model, strategy={"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}}, **given)
    return decide(body, observation, now=NOW, url="")


def awake(**facts: Any) -> Status:
    served = HistoryEntry(revision=OLD, result="Promoted", reason="FirstRevision", at=LONG_AGO)
    return Status(**{"phase": Phase.HEALTHY, "stable": OLD, "sleep": Sleep(port=20_000), "history": (served,), **facts})


def asleep(**facts: Any) -> Status:
    return awake(phase=Phase.SLEEPING, sleep=Sleep(port=20_000, since=NOW - IDLE), **facts)


def seen(idle: timedelta | None = IDLE, *, ready: int = 1, **activator: Any) -> Observed:
    since = None if idle is None else NOW - idle
    return observed(view(OLD, ready, desired=ready), idle_since=since, activator=replace(READY, **activator))


@pytest.mark.parametrize(
    ("status", "observation", "wish", "phase"),
    [
        pytest.param(awake(), seen(), {}, Phase.SLEEPING, id="no request for idleAfter: it sleeps"),
        pytest.param(awake(), seen(IDLE - timedelta(seconds=1)), {}, Phase.HEALTHY, id="a second too early"),
        pytest.param(awake(), seen(None), {}, Phase.HEALTHY, id="nobody has looked yet"),
        pytest.param(awake(), seen(held=1), {}, Phase.HEALTHY, id="a request on its way through the activator"),
        pytest.param(awake(), seen(endpoints=()), {}, Phase.HEALTHY, id="no activator is ready"),
        pytest.param(awake(), seen(endpoints=None), {}, Phase.HEALTHY, id="whether one is ready is not known"),
        pytest.param(
            awake(), seen(), {"scaling": {**SCALING, "wakeAt": NOONS}}, Phase.HEALTHY, id="its schedule keeps it awake"
        ),
        pytest.param(
            awake(), seen(), {"scaling": {**SCALING, "wakeAt": EVENINGS}}, Phase.SLEEPING, id="another time of the day"
        ),
        pytest.param(
            awake(sleep=Sleep(port=20_000, woken_at=NOW - timedelta(minutes=1))),
            seen(),
            {},
            Phase.HEALTHY,
            id="woken a minute ago, by a client that has gone",
        ),
        pytest.param(
            awake(history=(HistoryEntry(revision=OLD, result="Promoted", reason="x", at=NOW - timedelta(minutes=1)),)),
            seen(),
            {},
            Phase.HEALTHY,
            id="a rollout has ended a minute ago",
        ),
        pytest.param(awake(), seen(), {"scaling": None}, Phase.HEALTHY, id="without autoscaling nothing sleeps"),
        pytest.param(asleep(), seen(ready=0), {}, Phase.SLEEPING, id="it sleeps on"),
        pytest.param(asleep(), seen(ready=0, held=1), {}, Phase.WAKING, id="a request wakes it"),
        pytest.param(asleep(), seen(held=1), {}, Phase.SLEEPING, id="its last pod has not gone yet"),
        pytest.param(asleep(), seen(ready=0), {"model": "new"}, Phase.WAKING, id="a new revision wakes it"),
        pytest.param(
            asleep(), seen(ready=0), {"model": "new", "paused": True}, Phase.SLEEPING, id="unless spec.paused holds it"
        ),
        pytest.param(
            asleep(), seen(ready=0), {"scaling": {**SCALING, "wakeAt": NOONS}}, Phase.WAKING, id="its schedule wakes it"
        ),
        pytest.param(asleep(), seen(ready=0), {"scaling": None}, Phase.WAKING, id="idleAfter is taken away"),
        pytest.param(
            asleep(), seen(ready=0, is_installed=False), {}, Phase.WAKING, id="the activator is uninstalled: pods serve"
        ),
        pytest.param(asleep(), seen(ready=0, endpoints=()), {}, Phase.SLEEPING, id="the activators start again"),
        pytest.param(awake(phase=Phase.WAKING, progressed_at=NOW), seen(ready=0), {}, Phase.WAKING, id="it starts"),
        pytest.param(
            awake(phase=Phase.WAKING, progressed_at=NOW), seen(timedelta(0)), {}, Phase.HEALTHY, id="its pod is there"
        ),
        pytest.param(
            awake(phase=Phase.WAKING, progressed_at=NOW - timedelta(hours=1)),
            seen(ready=0),
            {},
            Phase.DEGRADED,
            id="its pod is late",
        ),
    ],
)
def test_the_phase_of_a_model_that_may_sleep(
    status: Status, observation: Observed, wish: dict[str, Any], phase: Phase
) -> None:
    assert asked(status, observation, **wish).status.phase is phase


def test_a_new_revision_is_rolled_out_as_soon_as_stable_is_awake() -> None:
    after = asked(awake(phase=Phase.WAKING, progressed_at=NOW), seen(), model="new").status
    assert (after.phase, after.stable, after.canary) == (Phase.PROGRESSING, OLD, NEW)


def test_a_stable_revision_that_cannot_wake_does_not_block_its_fix() -> None:
    broken = observed(view(OLD, 0, problems=(BROKEN,)), activator=READY)
    after = asked(awake(phase=Phase.WAKING, progressed_at=NOW), broken, model="new").status
    assert (after.canary, after.mode) == (NEW, "Rescue")


def test_a_model_that_sleeps_has_no_pod_and_no_autoscaler_and_is_ready() -> None:
    decision = asked(awake(), seen())
    assert decision.plan.sizes == {OLD: 0}
    assert decision.plan.autoscaled == ()
    assert decision.plan.standby == Standby(port=20_000, endpoints=("10.0.0.7",))
    ready = decision.status.condition("Ready")
    assert ready
    assert (ready.status, ready.reason) == ("True", "Sleeping")
    assert [event.reason for event in decision.events if not event.is_warning] == ["FellAsleep"]


def test_a_model_that_wakes_has_one_pod_whatever_its_size_was() -> None:
    decision = asked(asleep(), seen(ready=0, held=4))
    assert decision.plan.sizes == {OLD: 1}
    assert decision.plan.standby is not None
    assert "a request wakes revision" in decision.status.message


def test_activators_take_requests_until_every_node_knows_the_first_pod() -> None:
    just_ready = awake(sleep=Sleep(port=20_000, woken_at=NOW - HANDOVER, ready_at=NOW))
    assert asked(just_ready, seen(timedelta(0))).plan.standby is not None
    long_ready = awake(sleep=Sleep(port=20_000, woken_at=NOW - HANDOVER, ready_at=NOW - HANDOVER))
    assert asked(long_ready, seen(timedelta(0))).plan.standby is None


def test_a_model_with_one_pod_at_most_needs_no_autoscaler() -> None:
    one = {**SCALING, "maxReplicas": 1}
    assert asked(awake(), seen(timedelta(0)), scaling=one).plan.autoscaled == ()
    assert asked(awake(), seen(timedelta(0))).plan.autoscaled == (OLD,)


def test_the_next_pass_is_when_it_may_sleep_or_wakes() -> None:
    left = asked(awake(), seen(IDLE - timedelta(minutes=1))).requeue_after
    assert left
    assert timedelta(0) <= left - timedelta(minutes=1) < timedelta(seconds=1)
    until = asked(asleep(), seen(ready=0), scaling={**SCALING, "wakeAt": EVENINGS}).requeue_after
    assert until
    assert timedelta(0) <= until - timedelta(hours=8) < timedelta(seconds=1)


@pytest.mark.parametrize(
    ("activator", "status", "reason"),
    [
        pytest.param(ActivatorView(endpoints=()), "False", "NotInstalled", id="the chart has none"),
        pytest.param(replace(READY, endpoints=None), "Unknown", "Connecting", id="just started"),
        pytest.param(replace(READY, endpoints=()), "False", "NoActivator", id="none is ready"),
        pytest.param(READY, "True", "Listening", id="one listens"),
    ],
)
def test_a_condition_says_whether_the_activator_is_there(activator: ActivatorView, status: str, reason: str) -> None:
    after = asked(awake(), observed(view(OLD, 1), activator=activator)).status.condition("ActivatorReady")
    assert after
    assert (after.status, after.reason) == (status, reason)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        pytest.param(
            {"schedule": "0 7 30 2 *"}, "wakeAt[0].schedule: '0 7 30 2 *' is no schedule: Bad day", id="never"
        ),
        pytest.param({"schedule": "at seven"}, "wakeAt[0].schedule: 'at seven' is no schedule", id="no schedule"),
        pytest.param(
            {"schedule": "0 7 * * *", "timeZone": "Berlin"}, "wakeAt[0].timeZone: 'Berlin' is no", id="no zone"
        ),
    ],
)
def test_a_schedule_that_cannot_come_is_named(entry: dict[str, str], sentence: str) -> None:
    scaling = resource(Status(), autoscaling={**SCALING, "wakeAt": [{**entry, "for": "1h"}]}).spec.autoscaling
    with pytest.raises(InvalidSpec) as raised:
        check_schedules(scaling, NOW)
    assert f"spec.autoscaling.{sentence}" in str(raised.value)


BEFORE, THEN = datetime(2026, 1, 1, 11, tzinfo=UTC), datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("last", "counts", "since"),
    [
        pytest.param(None, {"a": 7}, THEN, id="the first look is the earliest that is known"),
        pytest.param({"a": 7}, {"a": 7}, BEFORE, id="silence"),
        pytest.param({"a": 7}, {"a": 8}, THEN, id="a request"),
        pytest.param({"a": 7}, {"a": 7, "b": 0}, BEFORE, id="another pod without requests"),
        pytest.param({"a": 7}, {"a": 7, "b": 1}, THEN, id="another pod with one"),
        pytest.param({"a": 7}, {"a": 0}, THEN, id="a server that began to count again"),
        pytest.param({"a": 7, "b": 1}, {"a": 7}, BEFORE, id="a pod that is gone"),
        pytest.param({"a": 7}, {"a": None}, THEN, id="a pod that does not answer may have answered others"),
    ],
)
def test_since_when_no_request_came(
    last: dict[str, int] | None, counts: dict[str, int | None], since: datetime
) -> None:
    before = None if last is None else Idleness(since=BEFORE, counts=last)
    assert observed_again(before, counts, THEN).since == since
