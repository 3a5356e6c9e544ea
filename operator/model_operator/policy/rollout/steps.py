"""The rules that advance a rollout: its steps one by one, and the promotion at their end."""

from typing import Any

from model_operator.api.analysis import OnInconclusive
from model_operator.api.status import Phase, Status, Weights
from model_operator.api.steps import Analysis, Compare, Evaluate, Pause, Replay, SetWeight
from model_operator.api.times import format_duration
from model_operator.api.values import replace
from model_operator.observation.values import Outcome
from model_operator.policy.rollout.annotations import accepted, is_asked
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.rollout.evaluation import EvaluationPhase, evaluate
from model_operator.policy.rollout.pauses import PauseReason
from model_operator.policy.rollout.replay import ReplayPhase, replay
from model_operator.policy.rollout.replica_counts import has_goal_size
from model_operator.policy.rollout.transitions import go_back, pause, remember, resume


def take_step(s: RolloutContext) -> Status | None:
    """Execute the current step, or go to the next one if it is done."""
    step = s.current_step
    if step is None or s.status.phase is Phase.PROMOTING:
        return None
    if isinstance(step, SetWeight):
        if s.status.weights.desired != step.percent:
            return replace(resume(s), weights=replace(s.status.weights, desired=step.percent))
        return next_step(s) if has_goal_size(s) else s.status
    if isinstance(step, Pause):
        return _take_pause(s, step)
    if isinstance(step, Evaluate):
        return _take_evaluation(s, step)
    if not has_goal_size(s):
        return s.status
    if isinstance(step, Analysis):
        return _take_analysis(s, step)
    if isinstance(step, Compare):
        return _take_comparison(s, step)
    if isinstance(step, Replay):
        return _take_replay(s, step)
    return next_step(s) if s.observed.route.is_programmed else s.status


def _take_pause(s: RolloutContext, step: Pause) -> Status:
    if is_asked(s, "promote", s.status.canary):
        return replace(next_step(s), **promotion(s))
    if step.duration is not None and s.since(s.status.step_started_at) >= step.duration:
        return next_step(s)
    return pause(s, PauseReason.PAUSE_STEP)


def _take_evaluation(s: RolloutContext, step: Evaluate) -> Status:
    result = evaluate(s, step)
    evaluation = result.to_status()
    match result.phase:
        case EvaluationPhase.FAILED:
            return go_back(s, "EvaluationFailed", result.message, evaluation=evaluation)
        case EvaluationPhase.PASSED:
            return replace(next_step(s), evaluation=evaluation)
        case EvaluationPhase.RUNNING:
            return s.changed(evaluation=evaluation)


def _take_replay(s: RolloutContext, step: Replay) -> Status:
    result = replay(s, step)
    facts = s.under(s.changed(replay=result.to_status()))
    match result.phase:
        case ReplayPhase.FAILED:
            return go_back(facts, "ReplayFailed", result.message)
        case ReplayPhase.PASSED:
            return next_step(facts)
        case ReplayPhase.INCONCLUSIVE:
            return _end_undecided(facts, PauseReason.REPLAY_INCONCLUSIVE, "the replay is undecided", result.message)
        case ReplayPhase.RUNNING:
            return facts.status


def _take_analysis(s: RolloutContext, step: Analysis) -> Status:
    elapsed = s.since(s.status.step_started_at)
    verdict = s.observed.verdict.outcome
    if s.observed.verdict.problem:
        return s.status  # an outage is neither good nor bad evidence
    if verdict is Outcome.PASS and elapsed >= step.minimum:
        return next_step(s)
    if step.maximum is None or elapsed < step.maximum:
        return s.status
    return _end_undecided(s, PauseReason.ANALYSIS_INCONCLUSIVE, "the analysis reached its maximum duration")


def _take_comparison(s: RolloutContext, step: Compare) -> Status:
    """Go to the next step if the canary won; a canary that lost was rolled back before (`fail_analysis`)."""
    verdict = s.observed.verdict
    if verdict.problem:
        return s.status
    match verdict.outcome:
        case Outcome.PASS:
            return next_step(s)
        case Outcome.SAMPLE_RATIO_MISMATCH:
            return pause(s, PauseReason.SAMPLE_RATIO_MISMATCH)
        case Outcome.NO_DIFFERENCE:
            return _end_undecided(s, PauseReason.NO_DIFFERENCE, "the A/B test has no winner")
    if s.since(s.status.step_started_at) < step.maximum:
        return s.status
    return _end_undecided(
        s, PauseReason.NO_DIFFERENCE, f"no difference was found within {format_duration(step.maximum)}"
    )


def _end_undecided(s: RolloutContext, reason: PauseReason, words: str, numbers: str = "") -> Status:
    """End a step as `onInconclusive` says; `numbers` are those of the analysis if there are no others."""
    match s.spec.analysis.on_inconclusive:
        case OnInconclusive.PROMOTE:
            return next_step(s)
        case OnInconclusive.ABORT:
            return go_back(s, str(reason), f"{words}: {numbers or s.observed.verdict.message}")
        case OnInconclusive.PAUSE:
            return pause(s, reason, f"{words} ({numbers}); promote or abort" if numbers else "")


def promote(s: RolloutContext) -> Status:
    """Promote the canary after all steps: first to full size, then with all traffic, then as stable."""
    status = s.status
    if status.phase is not Phase.PROMOTING:
        weights = replace(status.weights, desired=100)
        return replace(resume(s), phase=Phase.PROMOTING, weights=weights, progressed_at=s.now, progressed_replicas=0)
    if not has_goal_size(s) or status.weights.applied != 100:
        return status
    return s.changed(
        stable=status.canary,
        previous=status.stable,
        canary="",
        rollout_replicas=0,
        drain_started_at=s.now,
        weights=Weights(),
        step_index=0,
        steps_hash="",
        step_started_at=None,
        endpoints_lost_at=None,
        history=remember(s, status.canary, "Promoted", *_why_promoted(s)),
    )


def _why_promoted(s: RolloutContext) -> tuple[str, str]:
    """Return the reason for the history, and the numbers in favour of the canary."""
    verdict, mode = s.observed.verdict, s.status.mode
    if verdict.outcome is Outcome.PASS and s.spec.stickiness:
        compared = compared_metrics(s)
        return "AbTestWon", "; ".join(metric.message for metric in verdict.metrics if metric.name in compared)
    words = verdict.message if verdict.outcome is Outcome.PASS else ""
    return f"AllStepsDone{'' if mode == 'Steps' else mode}", words


def promotion(s: RolloutContext) -> dict[str, Any]:
    """Return the fields of a status in which the request to promote is accepted."""
    return accepted(s, "promote", f"the rollout of {s.status.canary} continues after step {s.status.step_index + 1}")


def next_step(s: RolloutContext) -> Status:
    """Return the status at the start of the next step."""
    return replace(
        resume(s),
        step_index=s.status.step_index + 1,
        step_started_at=s.now,
        progressed_at=s.now,
        progressed_replicas=0,
        endpoints_lost_at=None,
    )


def compared_metrics(s: RolloutContext) -> frozenset[str]:
    """Return the names of the metrics that decide an A/B test."""
    return frozenset(metric.name for metric in s.spec.analysis.metrics if metric.comparison)
