"""`status.message`: one sentence with the current activity and what it waits for."""

from model_operator.api.status import PauseCondition, Phase
from model_operator.api.steps import (
    Analysis,
    Compare,
    Evaluate,
    Pause,
    Replay,
    SetCanaryScale,
    SetHeaderRoute,
    SetMirrorRoute,
    SetWeight,
    Step,
)
from model_operator.api.times import format_duration
from model_operator.observation.pod_failures import most_severe, why_not_available
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.rollout.evaluation import evaluation_error, evaluation_hindrance
from model_operator.policy.rollout.gates import gate_words
from model_operator.policy.rollout.pauses import PauseReason
from model_operator.policy.rollout.replay import replay
from model_operator.policy.rollout.replica_counts import canary_goal, full_size


def status_message(s: RolloutContext) -> str:
    """Return the message."""
    status = s.status
    if s.observed.refusal:
        return s.observed.refusal
    if status.canary:
        return _of_rollout(s)
    if status.previous:
        view = s.observed.revision(status.previous)
        return f"{status.stable} serves all traffic; {status.previous} is draining ({_pods(view.pods)})"
    if status.aborted and status.rollback:
        return f"{status.aborted} was rolled back: {status.rollback.reason}: {status.rollback.message}"
    view, total = s.stable_view, full_size(s)
    problem = most_severe(view.problems)
    if problem and view.available < total:
        return f"{problem.reason}: {problem.message}"
    if status.phase is Phase.WAKING and status.sleep:
        return f"{status.sleep.cause} wakes revision {status.stable}: {view.available} of {total} pods are available"
    if s.target != status.stable and s.spec.paused:
        return f"revision {s.target} waits: spec.paused is true"
    if s.target != status.stable and total == 0:
        return f"revision {s.target} waits for pods that verify it: the model is scaled to zero"
    if status.phase is Phase.SLEEPING and s.spec.autoscaling and s.spec.autoscaling.idle_after:
        idle = format_duration(s.spec.autoscaling.idle_after)
        return f"revision {status.stable} sleeps after {idle} without a request; the next one wakes it"
    if total == 0:
        return f"revision {status.stable} is scaled to zero: no pod serves"
    if view.available < total:
        why = why_not_available(view)
        return f"waiting for revision {status.stable}: {view.available} of {total} pods are available{why}"
    route = s.observed.route
    if not route.is_programmed:
        return f"revision {status.stable} is available, but receives no traffic: {route.missing or route.message}"
    return f"revision {status.stable} serves with {_pods(view.available)}"


def _pods(count: int) -> str:
    return f"{count} pod{'' if count == 1 else 's'}"


def step_column(s: RolloutContext) -> str:
    """Return the current step and the number of steps, such as `3/9`; empty without a rollout by steps."""
    if not s.status.canary or not s.steps:
        return ""
    return f"{min(s.status.step_index + 1, len(s.steps))}/{len(s.steps)}"


def _of_rollout(s: RolloutContext) -> str:
    status = s.status
    if status.phase is Phase.ROLLING_BACK and status.rollback:
        return f"{status.canary} is being rolled back: {status.rollback.reason}: {status.rollback.message}"
    where = f"step {step_column(s)}: " if s.steps else ""
    if s.is_superseded:
        return f"{status.canary} is being replaced by {s.target}"
    if status.phase is Phase.PAUSED and status.pauses[0].reason != PauseReason.PAUSE_STEP:
        return f"{where}paused: {_pause_sentence(s, status.pauses[0])}"
    if full_size(s) == 0:
        return f"{where}{status.canary} waits for pods that verify it: the model is scaled to zero"
    goal, view = canary_goal(s, full_size(s)), s.canary_view
    if view.available < goal and status.phase is not Phase.PAUSED:
        why = why_not_available(view)
        return f"{where}waiting for {status.canary}: {view.available} of {goal} pods are available{why}"
    if status.phase is Phase.PROMOTING:
        return f"all traffic shifts to {status.canary}"
    return f"{where}{_step_words(s, s.current_step)}"


def _pause_sentence(s: RolloutContext, condition: PauseCondition) -> str:
    reason = PauseReason(condition.reason)
    if condition.message:
        return condition.message
    match reason:
        case PauseReason.ROUTER_MISSING:
            return s.observed.route.missing
        case PauseReason.GATE:
            return gate_words(s)
        case PauseReason.EVALUATION_ERROR:
            return f"the evaluation has no result: {evaluation_error(s)}"
        case PauseReason.ROUTE_NOT_PROGRAMMED:
            return f"the router did not act on the weight: {s.observed.route.message or 'no answer'}"
    is_test = isinstance(s.current_step, Compare)
    return f"{reason.sentence} ({s.observed.verdict.message})" if is_test else reason.sentence


def _route_words(s: RolloutContext) -> str:
    """Return the problem of a route that was programmed before, as text."""
    route, has_acted = s.observed.route, s.status.weights.programmed_at is not None
    return f" (the router does not act on it: {route.message})" if has_acted and not route.is_programmed else ""


def _step_words(s: RolloutContext, step: Step | None) -> str:
    status = s.status
    share = f"{status.weights.applied} % on {status.canary}{_route_words(s)}"
    match step:
        case SetWeight(percent):
            return f"{percent} % on {status.canary}, waiting for the router"
        case Pause(None):
            return f"{share}, paused until promoted"
        case Pause(duration) if duration is not None:
            left = duration - s.since(status.step_started_at)
            return f"{share}, paused for {format_duration(duration)}" if left else share
        case Analysis():
            verdict = s.observed.verdict
            if verdict.problem:
                return f"{share}, analysis holds: {verdict.problem}"
            return f"{share}, analysis: {verdict.message or 'gathering evidence'}"
        case Compare():
            verdict = s.observed.verdict
            if verdict.problem:
                return f"{share}, A/B test holds: {verdict.problem}"
            return f"{share}, A/B test: {verdict.message or 'gathering answers'}"
        case Evaluate():
            why = evaluation_hindrance(s)
            return f"evaluating {status.canary} on labelled data{f': {why}' if why else ''}"
        case Replay():
            return f"replaying requests of {status.stable} to {status.canary}: {replay(s, step).message}"
        case SetHeaderRoute():
            return f"setting the header route to {status.canary}"
        case SetMirrorRoute(percent):
            return f"mirroring {percent} % of the requests to {status.canary}"
        case SetCanaryScale():
            return f"scaling {status.canary}"
        case _:
            return share
