"""The step `replay`: when it asks, and the decision on what a candidate answered to recent requests of stable. Pure.

The servers of stable keep the sample, and one of the canary answers it (`engine.replayer`). An operator that restarts
before the result is in the status asks again. The sample is judged once: agreement by an exact test of a share, the
time of answers by the sign test that at most half of them are above the allowed ratio, and the distance by the mixture
of `shadow_test`. A healthy canary fails with a probability of at most `analysis.alpha`, which the limits share; it
passes when each limit is shown to hold.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from model_operator.api.replay import ReplayCounts
from model_operator.api.status import Phase
from model_operator.api.steps import Agreement, Distance, Latency, Replay
from model_operator.api.times import format_duration
from model_operator.observation.values import Outcome
from model_operator.policy.analysis.binomial import compare_share, trials_needed
from model_operator.policy.analysis.shadow_test import distance_e_value
from model_operator.policy.rollout.context import RolloutContext

#: Time after the timeout of the step in which the answers to the last sample may come.
REPLAY_PATIENCE = timedelta(minutes=2)


class ReplayPhase(StrEnum):
    """Phase of a replay (`status.replay.phase`)."""

    RUNNING = "Running"
    PASSED = "Passed"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitVerdict:
    """One limit of a replay, compared with the counts."""

    name: str
    outcome: Outcome
    message: str

    def to_status(self) -> dict[str, Any]:
        """Return an entry of `status.replay.metrics`."""
        return {"name": self.name, "verdict": str(self.outcome), "message": self.message}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """Result of the replay of a step; `requests` are those that the candidate was asked."""

    step: int
    phase: ReplayPhase
    message: str
    requests: int = 0
    metrics: tuple[LimitVerdict, ...] = ()

    def to_status(self) -> dict[str, Any]:
        """Return `status.replay`. How far a running one is stands in the status message alone."""
        head = {"phase": str(self.phase), "step": self.step}
        if self.phase is ReplayPhase.RUNNING:
            return head
        metrics = [metric.to_status() for metric in self.metrics]
        return {**head, "requests": self.requests, "metrics": metrics, "message": self.message}


def is_replaying(s: RolloutContext) -> bool:
    """Whether the current step is a replay that waits for a result."""
    return bool(s.status.canary) and s.status.phase is Phase.PROGRESSING and isinstance(s.current_step, Replay)


def is_recording(s: RolloutContext) -> bool:
    """Whether stable's servers must keep requests: from the start of a rollout with such a step until its end."""
    is_open = s.status.phase in (Phase.PROGRESSING, Phase.PAUSED) and not s.is_superseded
    return bool(s.status.canary) and is_open and requests_ahead(s) > 0


def requests_ahead(s: RolloutContext) -> int:
    """Return the size of the largest sample that the current step or a later one needs; 0 without one."""
    return max((step.requests for step in s.steps[s.status.step_index :] if isinstance(step, Replay)), default=0)


def is_sample_due(s: RolloutContext, step: Replay, recorded: int) -> bool:
    """Whether the recorded requests are to be replayed: there are enough, or there is no more time."""
    return recorded >= step.requests or (recorded > 0 and s.since(s.status.step_started_at) >= step.timeout)


def replay(s: RolloutContext, step: Replay) -> ReplayResult:
    """Return the result of the step's replay so far."""
    view, waited = s.observed.replay, s.since(s.status.step_started_at)
    if view.counts is not None:
        return _judged(s, step, view.counts)
    is_hopeless = waited >= step.timeout and not view.recorded and (view.recorded is not None or view.problem)
    if is_hopeless or waited >= step.timeout + REPLAY_PATIENCE:
        why = view.problem or f"stable answered no requests within {format_duration(step.timeout)}"
        return _result(s, ReplayPhase.INCONCLUSIVE, f"no result: {why}")
    words = f"{min(view.recorded or 0, step.requests)} of {step.requests} requests recorded"
    return _result(s, ReplayPhase.RUNNING, f"{words}: {view.problem}" if view.problem else words)


def _judged(s: RolloutContext, step: Replay, counts: ReplayCounts) -> ReplayResult:
    if not counts.requests:
        return _result(s, ReplayPhase.INCONCLUSIVE, f"{s.status.canary} answered no request in time")
    alpha = float(s.spec.analysis.alpha)
    metrics = tuple(_verdicts(step, counts, alpha))
    outcomes = {metric.outcome for metric in metrics}
    if Outcome.FAIL in outcomes:
        phase = ReplayPhase.FAILED
    else:
        phase = ReplayPhase.PASSED if outcomes == {Outcome.PASS} else ReplayPhase.INCONCLUSIVE
    decisive = {
        ReplayPhase.FAILED: (Outcome.FAIL,),
        ReplayPhase.PASSED: (Outcome.PASS,),
        ReplayPhase.INCONCLUSIVE: (Outcome.UNDECIDED,),
    }[phase]
    message = "; ".join(metric.message for metric in metrics if metric.outcome in decisive)
    return _result(s, phase, message, requests=counts.requests, metrics=metrics)


def _result(s: RolloutContext, phase: ReplayPhase, message: str, **facts: Any) -> ReplayResult:
    return ReplayResult(step=s.status.step_index, phase=phase, message=message, **facts)


def _verdicts(step: Replay, counts: ReplayCounts, alpha: float) -> Iterator[LimitVerdict]:
    limits = [limit for limit in (step.agreement, step.distance, step.latency) if limit is not None]
    share = alpha / len(limits)
    for limit in limits:
        match limit:
            case Agreement():
                yield _agreement(limit, counts, fail_alpha=share, pass_alpha=alpha)
            case Distance():
                yield _distance(limit, counts, fail_alpha=share, pass_alpha=alpha)
            case Latency():
                yield _latency(limit, counts, fail_alpha=share, pass_alpha=alpha)


def _agreement(limit: Agreement, counts: ReplayCounts, *, fail_alpha: float, pass_alpha: float) -> LimitVerdict:
    least, agreed, total = float(limit.minimum), counts.agreed, counts.requests
    outcome = compare_share(agreed, total, least, fail_alpha=fail_alpha, pass_alpha=pass_alpha)
    message = f"agreement: {agreed} of {total} requests ({agreed / total:.2%}), at least {least:.4g} required"
    if counts.refused:
        named = ", ".join(f"{fault.feature} ({fault.count})" for fault in counts.faults)
        message += f"; the new revision refuses {counts.refused}: {named}"
    return LimitVerdict(
        name="agreement", outcome=outcome, message=message + _more(outcome, agreed, total, least, pass_alpha)
    )


def _more(outcome: Outcome, successes: int, trials: int, limit: float, alpha: float) -> str:
    """Return how many more requests with this share would pass, as text; empty if none would."""
    needed = trials_needed(successes / trials, limit, alpha) if outcome is Outcome.UNDECIDED else None
    return "" if needed is None or needed <= trials else f", needs about {needed - trials} more requests"


def _distance(limit: Distance, counts: ReplayCounts, *, fail_alpha: float, pass_alpha: float) -> LimitVerdict:
    most, sums = float(limit.maximum), counts.distance
    outcome = Outcome.UNDECIDED
    if distance_e_value(sums, most, sign=1) >= 1 / fail_alpha:
        outcome = Outcome.FAIL
    elif distance_e_value(sums, most, sign=-1) >= 1 / pass_alpha:
        outcome = Outcome.PASS
    kind = "relative" if limit.relative else "absolute"
    message = f"distance: mean {sums.mean:.4g} ({kind}) of {round(sums.count)} requests, {most:.4g} allowed"
    if not sums.count:
        message = "distance: no request has numbers in both answers; use agreement"
    return LimitVerdict(name="distance", outcome=outcome, message=message)


def _latency(limit: Latency, counts: ReplayCounts, *, fail_alpha: float, pass_alpha: float) -> LimitVerdict:
    fast = counts.timed - counts.slower
    outcome = Outcome.UNDECIDED
    if counts.timed:
        outcome = compare_share(fast, counts.timed, 0.5, fail_alpha=fail_alpha, pass_alpha=pass_alpha)
    message = (
        f"latency: median {_milliseconds(counts.canary.median)} (p95 {_milliseconds(counts.canary.p95)}),"
        f" stable {_milliseconds(counts.stable.median)} (p95 {_milliseconds(counts.stable.p95)});"
        f" {counts.slower} of {counts.timed} answers took more than {limit.max_ratio:g} times as long"
    )
    return LimitVerdict(name="latency", outcome=outcome, message=message)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
