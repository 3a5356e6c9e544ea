"""The time until the next pass without a change: the earliest of all persisted timers."""

from collections.abc import Iterator
from datetime import timedelta

from model_operator.api.status import Phase
from model_operator.api.steps import Analysis, Compare, Pause, Replay
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.rollout.pauses import PauseReason
from model_operator.policy.rollout.replay import REPLAY_PATIENCE
from model_operator.policy.rollout.rollback import time_until_scale_down
from model_operator.policy.rollout.rules import (
    PULL_PATIENCE,
    ROUTE_PATIENCE,
    WARM_PATIENCE,
    deadline_start,
    is_waiting_for_pods,
    warm_time,
)
from model_operator.policy.rollout.sleep import sleep_clocks

#: Added to each timer, so that it has certainly expired in the next pass.
_MARGIN = timedelta(milliseconds=5)


def requeue_after(s: RolloutContext) -> timedelta | None:
    """Return the time until the next timer expires; None without a timer."""
    waits = [wait for wait in _clocks(s) if wait > timedelta(0)]
    return min(waits) + _MARGIN if waits else None


def _clocks(s: RolloutContext) -> Iterator[timedelta]:
    status = s.status
    if status.previous:
        yield s.scale_down_delay - s.since(status.drain_started_at)
    yield from sleep_clocks(s)
    if status.phase in (Phase.PENDING, Phase.WAKING):
        yield s.spec.progress_deadline - s.since(status.progressed_at)
    if status.phase is Phase.ROLLING_BACK:
        yield time_until_scale_down(s) or timedelta(0)
    elif status.canary:
        yield from _clocks_of_rollout(s)


def _clocks_of_rollout(s: RolloutContext) -> Iterator[timedelta]:
    status, step = s.status, s.current_step
    if is_waiting_for_pods(s):
        yield s.spec.progress_deadline - s.since(deadline_start(s))
        yield PULL_PATIENCE - s.since(deadline_start(s))
    if status.weights.applied == 0 < status.weights.desired:
        yield WARM_PATIENCE - s.since(status.progressed_at)
        if status.weights.programmed_at is not None:
            yield warm_time(s) - s.since(status.weights.programmed_at)
    if status.weights.applied_at is not None:
        yield ROUTE_PATIENCE - s.since(status.weights.applied_at)
    if status.weights.programmed_at is not None:
        yield s.propagation - s.since(status.weights.programmed_at)
    if isinstance(step, Pause) and step.duration is not None:
        yield step.duration - s.since(status.step_started_at)
    if isinstance(step, Compare):
        yield step.maximum - s.since(status.step_started_at)
    if isinstance(step, Replay):
        yield step.timeout - s.since(status.step_started_at)
        yield step.timeout + REPLAY_PATIENCE - s.since(status.step_started_at)
    if isinstance(step, Analysis):
        yield step.minimum - s.since(status.step_started_at)
        yield (step.maximum or timedelta(0)) - s.since(status.step_started_at)
    if s.observed.verdict.problem:
        yield s.spec.analysis.provider_timeout - s.since(s.observed.verdict.problem_since)
    if s.max_pause is not None and status.pauses and PauseReason(status.pauses[0].reason).is_manual:
        yield s.max_pause - s.since(status.pauses[0].start_time)
