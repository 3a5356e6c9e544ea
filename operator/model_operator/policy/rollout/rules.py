"""The rules of a running rollout that end or hold it. Those that advance it are in `steps`."""

from datetime import datetime, timedelta

from model_operator.api.analysis import OnProviderError
from model_operator.api.status import Phase, Status, Weights
from model_operator.api.steps import Analysis, Compare, Pause, Replay, SetWeight
from model_operator.api.times import format_duration
from model_operator.api.values import replace
from model_operator.observation.pod_failures import PULL_REASONS, is_terminal, most_severe, why_not_available
from model_operator.observation.values import Outcome, PodProblem
from model_operator.policy.analysis.split_verification import is_split_right
from model_operator.policy.rollout.annotations import accepted, is_asked
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.rollout.evaluation import evaluation_error
from model_operator.policy.rollout.pauses import PauseReason
from model_operator.policy.rollout.replica_counts import canary_goal, full_size, has_goal_size, may_take_weight
from model_operator.policy.rollout.rollback import is_traffic_gone, stable_can_carry, take_traffic_away
from model_operator.policy.rollout.steps import compared_metrics, next_step, promote, promotion, take_step
from model_operator.policy.rollout.transitions import begin, go_back, pause, remember, resume

#: Time that a router may take to act on a weight before the rollout pauses.
ROUTE_PATIENCE = timedelta(minutes=2)
#: Time that pulls of an image may fail for a transient reason before the rollout is rolled back.
PULL_PATIENCE = timedelta(minutes=2)
#: Time that a router may take to know the canary before its first weight, which is then set all the same.
WARM_PATIENCE = timedelta(seconds=10)
#: Time between that and the first weight, for a router that accepts a backend before it has built it.
WARM_TIME = timedelta(seconds=2)

# --- what ends it -----------------------------------------------------------------------------


def revert(s: RolloutContext) -> Status | None:
    """Roll back because the spec has the stable revision again; not while `spec.paused` holds the rollout."""
    if s.target != s.status.stable or s.spec.paused:
        return None
    return go_back(s, "Reverted", f"the spec has revision {s.status.stable} again")


def supersede(s: RolloutContext) -> Status | None:
    """Replace the canary because the spec has a third revision, which starts when the traffic is back at stable."""
    if not s.is_superseded:
        return None
    if s.status.weights.applied > 0:
        status = take_traffic_away(s) if stable_can_carry(s) else s.status
        return replace(status, phase=Phase.PROGRESSING, pauses=())
    if not is_traffic_gone(s):
        return s.status if s.status.phase is Phase.PROGRESSING else s.changed(phase=Phase.PROGRESSING, pauses=())
    message = f"the spec has revision {s.target} now"
    return begin(s, history=remember(s, s.status.canary, "Superseded", "SpecChanged", message))


def abort(s: RolloutContext) -> Status | None:
    """Roll back because a user requested it."""
    if not is_asked(s, "abort", s.status.canary):
        return None
    answer = accepted(s, "abort", f"{s.status.canary} is being rolled back; all traffic shifts to {s.status.stable}")
    return go_back(s, "AbortRequested", "a user requested it", **answer)


def canary_failed(s: RolloutContext) -> Status | None:
    """Roll back because the canary's pods have failed for good."""
    problem = most_severe(s.canary_view.problems)
    if problem is None or not (is_terminal(problem) or is_pull_hopeless(s, problem)):
        return None
    return go_back(s, problem.reason, problem.message)


def is_pull_hopeless(s: RolloutContext, problem: PodProblem) -> bool:
    """Whether no pod of the canary could pull its image for longer than a transient problem lasts."""
    is_pulling = problem.reason in PULL_REASONS and s.canary_view.ready == 0
    return is_pulling and s.since(deadline_start(s)) >= PULL_PATIENCE


def record_progress(s: RolloutContext) -> Status | None:
    """Restart the progress deadline when more pods of the canary are available than ever before in this step.

    A pod that becomes unready and ready again is not progress.
    """
    if s.canary_view.available <= s.status.progressed_replicas or not is_waiting_for_pods(s):
        return None
    return s.changed(progressed_at=s.now, progressed_replicas=s.canary_view.available)


def progress_deadline_exceeded(s: RolloutContext) -> Status | None:
    """Roll back, or pause, because the canary made no progress in time. Flapping readiness is not progress."""
    if not is_waiting_for_pods(s) or s.spec.paused or s.status.phase is Phase.PAUSED:
        return None
    if s.since(deadline_start(s)) <= s.spec.progress_deadline:
        return None
    why = why_not_available(s.canary_view)
    message = (
        f"revision {s.status.canary} made no progress within {format_duration(s.spec.progress_deadline)}"
        f" ({s.canary_view.available} of {canary_goal(s, full_size(s))} pods){why}"
    )
    if s.spec.progress_deadline_abort:
        return go_back(s, "ProgressDeadlineExceeded", message)
    return pause(s, PauseReason.PROGRESS_DEADLINE_EXCEEDED, message)


def fail_analysis(s: RolloutContext) -> Status | None:
    """Roll back because the analysis failed."""
    verdict = s.observed.verdict
    if verdict.problem and s.spec.analysis.on_provider_error is OnProviderError.ABORT:
        return go_back(s, "ProviderUnavailable", verdict.problem)
    if verdict.outcome is not Outcome.FAIL:
        return None
    return go_back(s, "AbTestLost" if lost_ab_test(s) else "AnalysisFailed", s.observed.verdict.message)


def lost_ab_test(s: RolloutContext) -> bool:
    """Whether the lost A/B test is the only failed metric of the canary."""
    failed = {metric.name for metric in s.observed.verdict.metrics if metric.outcome is Outcome.FAIL}
    return bool(failed) and failed <= compared_metrics(s)


# --- what holds it ----------------------------------------------------------------------------


def canary_lost_endpoints(s: RolloutContext) -> Status | None:
    """Shift the traffic to stable at once because the canary has no ready pod."""
    weights = s.status.weights
    if s.canary_view.ready > 0 or not (weights.applied > 0 or was_ready(s)):
        return None
    lost_at = s.status.endpoints_lost_at or s.now
    if weights.applied == 0 and lost_at == s.status.endpoints_lost_at:
        return None
    applied = replace(weights, applied=0, applied_at=s.now, programmed_at=None, verified=None)
    return s.changed(endpoints_lost_at=lost_at, weights=applied if weights.applied else weights)


def restart_changed_steps(s: RolloutContext) -> Status | None:
    """Continue after a change of the steps at the first step with at least the current weight."""
    if s.status.steps_hash == s.steps_hash or s.status.phase is Phase.PROMOTING:
        return None
    reached = s.status.weights.desired
    index = next(
        (i for i, step in enumerate(s.steps) if isinstance(step, SetWeight) and step.percent >= reached),
        len(s.steps),
    )
    if reached == 0:
        index = 0
    return s.changed(
        phase=Phase.PROGRESSING, steps_hash=s.steps_hash, step_index=index, step_started_at=s.now, pauses=()
    )


def externally_paused(s: RolloutContext) -> Status | None:
    """Pause for a cause outside of the steps: `spec.paused`, an absent router, or an outage of a metric provider."""
    reason = _external_cause(s)
    if reason is not None:
        return pause(s, reason)
    is_over = any(PauseReason(condition.reason).ends_with_its_cause for condition in s.status.pauses)
    return resume(s) if is_over else None


def _external_cause(s: RolloutContext) -> PauseReason | None:
    if s.spec.paused:
        return PauseReason.USER_PAUSED
    if s.observed.route.missing:
        return PauseReason.ROUTER_MISSING
    if provider_timed_out(s):
        return PauseReason.PROVIDER_UNAVAILABLE
    return PauseReason.EVALUATION_ERROR if evaluation_error(s) else None


def provider_timed_out(s: RolloutContext) -> bool:
    """Whether a metric provider has failed for longer than the spec allows."""
    verdict = s.observed.verdict
    return bool(verdict.problem) and s.since(verdict.problem_since) >= s.spec.analysis.provider_timeout


def expire_pause(s: RolloutContext) -> Status | None:
    """Roll back because no user promoted within `maxPauseDuration`."""
    if s.max_pause is None or not s.status.pauses or not PauseReason(s.status.pauses[0].reason).is_manual:
        return None
    waited = s.since(s.status.pauses[0].start_time)
    if waited < s.max_pause:
        return None
    return go_back(s, "PauseExpired", f"no user promoted it within {format_duration(s.max_pause)}")


def promote_fully(s: RolloutContext) -> Status | None:
    """Skip the remaining steps because a user requested it."""
    if s.status.phase is Phase.PROMOTING or not is_asked(s, "promote-full", s.status.canary):
        return None
    return s.changed(
        phase=Phase.PROGRESSING,
        step_index=len(s.steps),
        step_started_at=s.now,
        pauses=(),
        **accepted(s, "promote-full", f"the remaining steps are skipped; all traffic shifts to {s.status.canary}"),
    )


def wait_for_promotion(s: RolloutContext) -> Status | None:
    """End a manual pause when a user promotes."""
    if s.status.phase is not Phase.PAUSED or not PauseReason(s.status.pauses[0].reason).is_manual:
        return None
    step = s.current_step
    is_timed = isinstance(step, Pause) and step.duration is not None
    if is_asked(s, "promote", s.status.canary):
        answer = promotion(s)
        following = next_step(s) if isinstance(step, Pause | Analysis | Compare | Replay) else resume(s)
        return replace(following, **answer)
    if is_timed or (isinstance(step, Pause) and s.status.weights.applied != s.status.weights.desired):
        return None
    return s.status


def reconcile_weight(s: RolloutContext) -> Status | None:
    """Set the applied weight to the desired one, and verify that the router acts on it."""
    weights = s.status.weights
    if full_size(s) == 0:
        # Without pods the rollout waits until the model is scaled up. A revision with all traffic has served already.
        return None if weights.applied == 100 else s.status
    if weights.applied != weights.desired:
        if not may_take_weight(s) or s.canary_view.ready == 0:
            return s.status
        return wait_for_warm_route(s) or s.changed(
            weights=Weights(desired=weights.desired, applied=weights.desired, applied_at=s.now),
        )
    if weights.applied == 0 or weights.applied_at is None:
        return None
    if weights.programmed_at is None:
        if is_programmed(s):
            return s.changed(weights=replace(weights, programmed_at=s.now), endpoints_lost_at=None)
        return route_not_programmed(s)
    if s.since(weights.programmed_at) < s.propagation:
        return s.status
    is_right = None if s.has_copies else is_split_right(s.observed.traffic, weights.applied)
    # An A/B test with a wrong split keeps the assignment of its users, and has no verdict.
    if is_right is False and s.splits_requests and not s.spec.stickiness:
        return route_not_programmed(s)
    return None


def wait_for_warm_route(s: RolloutContext) -> Status | None:
    """Hold the first weight until the router has the canary as a backend; None when it may be set."""
    weights, route = s.status.weights, s.observed.route
    waited = s.since(s.status.progressed_at) if s.status.progressed_at else WARM_PATIENCE
    if weights.applied > 0 or not s.splits_requests or waited >= WARM_PATIENCE:
        return None
    if weights.programmed_at is None:
        return s.changed(weights=replace(weights, programmed_at=s.now)) if route.is_warm else s.status
    return s.status if s.since(weights.programmed_at) < warm_time(s) else None


def warm_time(s: RolloutContext) -> timedelta:
    """Return the time between a warm route and the first weight."""
    return min(s.propagation, WARM_TIME)


def route_not_programmed(s: RolloutContext) -> Status:
    """Restore the previous weight and pause if the router has not acted on the new one in time."""
    weights = s.status.weights
    if s.since(weights.applied_at) < ROUTE_PATIENCE or not s.splits_requests:
        return s.status
    before = min(s.weight_before, weights.applied)
    restored = Weights(desired=before, applied=before, applied_at=s.now, programmed_at=s.now, verified=False)
    return replace(pause(s, PauseReason.ROUTE_NOT_PROGRAMMED), weights=restored)


def is_programmed(s: RolloutContext) -> bool:
    """Whether the router has acted on the weight."""
    if s.splits_requests:
        return s.observed.route.is_programmed and s.observed.route.weight == s.status.weights.applied
    front, status = s.observed.front, s.status
    reaches_canary = front.selects_all_revisions or front.revision == status.canary
    return reaches_canary and has_goal_size(s)


def was_ready(s: RolloutContext) -> bool:
    """Whether the canary was ready in the last pass."""
    condition = s.status.condition("ModelLoaded")
    return condition is not None and condition.status == "True"


def is_waiting_for_pods(s: RolloutContext) -> bool:
    """Whether the rollout waits for the canary's pods, rather than for a user, a router or a verdict."""
    goal, weights = canary_goal(s, full_size(s)), s.status.weights
    if s.canary_view.ready == 0:
        return goal > 0
    is_moving = weights.applied != weights.desired or weights.programmed_at is None
    return is_moving and s.status.phase is not Phase.PAUSED and s.canary_view.available < goal


def deadline_start(s: RolloutContext) -> datetime | None:
    """Return the start of the progress deadline: the last progress, or the loss of the endpoints."""
    return max(filter(None, (s.status.endpoints_lost_at, s.status.progressed_at)), default=None)


RULES = (
    revert,
    supersede,
    abort,
    canary_failed,
    canary_lost_endpoints,
    record_progress,
    progress_deadline_exceeded,
    fail_analysis,
    restart_changed_steps,
    externally_paused,
    expire_pause,
    promote_fully,
    wait_for_promotion,
    reconcile_weight,
    take_step,
    promote,
)
