"""The rollback: first stable's capacity, then the traffic, then, once the router has acted, the canary's pods."""

from datetime import timedelta

from model_operator.api.status import Phase, Status, Weights
from model_operator.api.values import replace
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.rollout.replica_counts import rollback_size
from model_operator.policy.rollout.transitions import remember

#: Reasons after which the model is healthy: the spec requested the rollback.
HEALTHY_ROLLBACK_REASONS = frozenset({"Reverted"})


def roll_back(s: RolloutContext) -> Status:
    """Take the next step of the rollback."""
    if s.status.weights.applied > 0:
        return take_traffic_away(s) if stable_can_carry(s) else s.status
    if not is_traffic_gone(s):
        return s.status
    gone_at = s.status.weights.programmed_at
    if gone_at is None:
        return s.changed(weights=replace(s.status.weights, programmed_at=s.now))
    still_used = s.canary_view.ready > 0
    if still_used and s.since(gone_at) < s.abort_scale_down_delay:
        return s.status
    return finish(s)


def stable_can_carry(s: RolloutContext) -> bool:
    """Whether stable has the capacity for all traffic, or the canary serves none."""
    stable, canary = s.stable_view, s.canary_view
    stable_is_hopeless = stable.available == 0 and bool(stable.problems)
    return stable.available >= rollback_size(s) or canary.ready == 0 or stable_is_hopeless


def take_traffic_away(s: RolloutContext) -> Status:
    """Return the status with weight 0 as intent; the router is updated after it is persisted."""
    return s.changed(
        weights=replace(s.status.weights, desired=0, applied=0, applied_at=s.now, programmed_at=None, verified=None)
    )


def is_traffic_gone(s: RolloutContext) -> bool:
    """Whether no request can reach the canary any more."""
    if not s.splits_requests:
        return s.canary_view.ready == 0 or not s.observed.front.selects_all_revisions
    if s.observed.route.missing:
        return True  # no router, no traffic through it
    return s.observed.route.is_programmed and s.observed.route.weight == 0


def finish(s: RolloutContext) -> Status:
    """End the rollback: healthy after a revert, degraded after a failure."""
    status = s.status
    assert status.rollback is not None  # noqa: S101 -- nothing goes back without a reason
    reason, message = status.rollback.reason, status.rollback.message
    is_well = reason in HEALTHY_ROLLBACK_REASONS
    return s.changed(
        phase=Phase.HEALTHY if is_well else Phase.DEGRADED,
        canary="",
        rollout_replicas=0,
        aborted="" if is_well else status.canary,
        rollback=None if is_well else status.rollback,
        weights=Weights(),
        step_index=0,
        steps_hash="",
        step_started_at=None,
        rollout_started_at=None,
        progressed_at=None,
        progressed_replicas=0,
        endpoints_lost_at=None,
        history=remember(s, status.canary, "Reverted" if is_well else "Aborted", reason, message),
    )


def time_until_scale_down(s: RolloutContext) -> timedelta | None:
    """Return the time until the canary's pods are removed; None if the rollback does not wait for that."""
    gone_at = s.status.weights.programmed_at
    return None if gone_at is None else s.abort_scale_down_delay - s.since(gone_at)
