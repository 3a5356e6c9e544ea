"""When a model sleeps, and what wakes it (`spec.autoscaling.idleAfter`; docs/how-to/sleep.md).

A model sleeps outside of rollouts only, and only while an activator listens that takes its requests. Its phases are a
cycle: Healthy, Sleeping, Waking, Healthy. A new revision wakes it first, and is then rolled out next to stable.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from model_operator.api.spec import Autoscaling, WakeAt
from model_operator.api.status import Phase, Sleep, Status
from model_operator.api.values import replace
from model_operator.policy.rollout.annotations import is_asked
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.rollout.replica_counts import full_size
from model_operator.policy.schedule import Due, due

#: Time for which activators take requests next to the first pods of a model.
HANDOVER = timedelta(seconds=10)


def can_sleep(s: RolloutContext) -> bool:
    """Whether the spec lets the model sleep."""
    return s.spec.autoscaling is not None and s.spec.autoscaling.idle_after is not None


def claim_port(s: RolloutContext) -> Status:
    """Record the port of the activators for the model: they listen long before it sleeps."""
    activator, sleep = s.observed.activator, s.status.sleep
    if can_sleep(s):
        if not activator.port or (sleep is not None and sleep.port == activator.port):
            return s.status
        return s.changed(sleep=Sleep(port=activator.port) if sleep is None else replace(sleep, port=activator.port))
    is_awake = s.status.phase not in (Phase.SLEEPING, Phase.WAKING)
    return s.changed(sleep=None) if is_awake else s.status


def fall_asleep(s: RolloutContext) -> Status | None:
    """Sleep because no request came for `idleAfter`."""
    left, sleep = time_until_idle(s), s.status.sleep
    if left is None or left > timedelta(0) or sleep is None or s.status.phase is not Phase.HEALTHY:
        return None
    activator = s.observed.activator
    if not activator.endpoints or activator.held or s.target != s.status.stable or awake_until(s) is not None:
        return None
    return s.changed(phase=Phase.SLEEPING, sleep=replace(sleep, since=s.now, cause=""))


def wake(s: RolloutContext) -> Status:
    """Wake a model that sleeps, if there is a cause; the pods of before must not pass for new ones."""
    cause, sleep = wake_cause(s), s.status.sleep
    if not cause or s.stable_view.ready > 0:
        return s.status
    return s.changed(
        phase=Phase.WAKING,
        sleep=replace(sleep, since=None, woken_at=s.now, ready_at=None, cause=cause) if sleep else None,
        progressed_at=s.now,
        progressed_replicas=0,
    )


def wake_cause(s: RolloutContext) -> str:
    """Return the cause for which a model must not sleep, as the end of a sentence; empty without one."""
    activator = s.observed.activator
    if not can_sleep(s):
        return "a change of autoscaling"
    if not activator.is_installed:
        return "the lack of an activator, without which no request could wake it"
    if activator.held:
        return "a request"
    if awake_until(s) is not None:
        return "its schedule"
    if s.target == s.status.stable or s.spec.paused:
        return ""
    is_wanted = s.target != s.status.aborted or is_asked(s, "retry", s.target)
    return f"revision {s.target}" if is_wanted else ""


def finish_waking(s: RolloutContext) -> Status | None:
    """Become healthy when the first pod is available; the autoscaler does the rest."""
    if s.stable_view.available < min(1, full_size(s)):
        return None
    sleep = replace(s.status.sleep, ready_at=s.now) if s.status.sleep else None
    return s.changed(phase=Phase.HEALTHY, sleep=sleep, progressed_at=None, progressed_replicas=0)


def time_until_relieved(s: RolloutContext) -> timedelta:
    """Return for how long activators still take requests next to the pods of a model that was woken; 0 if they do not.

    A pod that is available is among the endpoints of its Service a moment later, and on the nodes after another one.
    """
    ready_at = s.status.sleep.ready_at if s.status.sleep else None
    return max(HANDOVER - s.since(ready_at), timedelta(0)) if ready_at else timedelta(0)


def time_until_idle(s: RolloutContext) -> timedelta | None:
    """Return the time until the model has been idle for `idleAfter`; None if it never sleeps, or was not looked at.

    The time counts from the last request, the last wake and the end of the last rollout.
    """
    scaling, since = s.spec.autoscaling, s.observed.idle_since
    if scaling is None or scaling.idle_after is None or since is None:
        return None
    ended = s.status.history[0].at if s.status.history else None
    woken = s.status.sleep.woken_at if s.status.sleep else None
    return scaling.idle_after - (s.now - max(filter(None, (since, ended, woken))))


def awake_until(s: RolloutContext) -> datetime | None:
    """Return the time until which a schedule keeps the model awake; None if none does now."""
    if s.spec.autoscaling is None:
        return None
    ends = (
        found.missed + entry.duration
        for entry, found in schedules(s.spec.autoscaling, s.now)
        if found.missed is not None
    )
    return max(ends, default=None)


def schedules(scaling: Autoscaling, now: datetime) -> Iterator[tuple[WakeAt, Due]]:
    """Yield each schedule with the time at which it began, if it is not over, and that at which it begins next.

    Raises:
        InvalidSpec: one of them is no schedule, or never comes.
    """
    for index, entry in enumerate(scaling.wake_at):
        path = f"spec.autoscaling.wakeAt[{index}]"
        yield entry, due(entry.schedule, entry.time_zone, since=now - entry.duration, now=now, path=path)


def check_schedules(scaling: Autoscaling | None, now: datetime) -> None:
    """Check that every schedule comes.

    Raises:
        InvalidSpec: one of them is no schedule, or never comes.
    """
    if scaling is not None:
        for _ in schedules(scaling, now):
            pass


def sleep_clocks(s: RolloutContext) -> Iterator[timedelta]:
    """Yield the times until a model that is awake may sleep, or until one that sleeps wakes."""
    scaling = s.spec.autoscaling
    if scaling is None or not can_sleep(s):
        return
    if s.status.phase is Phase.SLEEPING:
        yield from (found.following - s.now for _, found in schedules(scaling, s.now))
        return
    yield time_until_relieved(s)
    if s.status.phase is Phase.HEALTHY:
        yield time_until_idle(s) or timedelta(0)
        yield (awake_until(s) or s.now) - s.now
