"""Decides when a live model needs training: its inputs drifted, or its quality fell. `engine.retraining` acts on it.

Quality is that of labels, or what servers estimate without them. An estimate that servers do not trust is none, and one
that they trust is below its bound where three standard errors say so at `POLLS` polls in a row.

Quality is tested like a bound of a canary (`policy.analysis.feedback_test`): the evidence that the metric violates its
bound must reach 1/alpha. A long good history must not delay the detection, so labels are grouped into windows of
`WINDOW` labels, each with its own test. Pure.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from types import MappingProxyType

from model_operator.api.estimate import EstimatedMetric
from model_operator.api.hooks import EstimatedBound, Retrain
from model_operator.api.revision import digest
from model_operator.api.status import Retraining
from model_operator.api.sums import SumStats
from model_operator.api.times import format_time
from model_operator.api.values import replace
from model_operator.observation.values import Outcome
from model_operator.policy.analysis.feedback_test import FeedbackState, FeedbackTest, Labels
from model_operator.policy.rollout.context import RolloutContext

#: Number of consecutive polls that must report drift of the same feature, or an estimate below its bound.
POLLS = 3
WINDOW = 2_000
_DECIDES_AT = 100.0
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingSignals:
    """Signals of one stable revision: consecutive polls with drift, by feature, and the labels of the window.

    `estimated` are the metrics estimated at the last polls, the newest one last.
    """

    drifted: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, SumStats] = field(default_factory=dict)
    estimated: tuple[Mapping[str, EstimatedMetric], ...] = ()


def learn(
    signals: RetrainingSignals,
    drifted: Set[str],
    labels: Mapping[str, SumStats],
    estimated: Mapping[str, EstimatedMetric] = MappingProxyType({}),
) -> RetrainingSignals:
    """Return the signals after one more poll.

    `labels` are those since the last one, by metric; `estimated` are the metrics that may be trusted.
    """
    windows = {name: window for name, window in signals.labels.items() if window.count < WINDOW}
    return RetrainingSignals(
        drifted={feature: signals.drifted.get(feature, 0) + 1 for feature in sorted(drifted)},
        labels={**windows, **{name: windows.get(name, SumStats()) + more for name, more in labels.items()}},
        estimated=(*signals.estimated, estimated)[-POLLS:],
    )


def cause(hook: Retrain, signs: RetrainingSignals) -> str:
    """Return why the model should be trained again, in one sentence; empty if it should not."""
    drifted = [feature for feature, polls in signs.drifted.items() if polls >= POLLS]
    if hook.drift and drifted:
        more = f" and {len(drifted) - _SHOWN} more" if len(drifted) > _SHOWN else ""
        return f"the inputs have drifted: {', '.join(drifted[:_SHOWN])}{more}"
    for metric in hook.quality:
        answers = signs.labels.get(metric.name, SumStats())
        test = FeedbackTest(metric, _DECIDES_AT)
        if test.verdict(FeedbackState(total=Labels(canary=answers))) is Outcome.FAIL:
            bound = f"at least {metric.minimum:g}" if metric.minimum is not None else f"at most {metric.maximum:g}"
            value = test.value(answers) or 0.0
            return f"{metric.name} is {value:.4g} on {answers.count:.0f} labelled answers, and must be {bound}"
    return next(filter(None, (_estimated_below(bound, signs) for bound in hook.estimated)), "")


def _estimated_below(bound: EstimatedBound, signs: RetrainingSignals) -> str:
    found = [one[bound.name] for one in signs.estimated if bound.name in one]
    if len(found) < POLLS or any(one.highest >= bound.minimum for one in found):
        return ""
    last = found[-1]
    return (
        f"the estimated {bound.name} is {last.value:.3g} ({last.low:.3g} to {last.high:.3g}) on {last.rows:.0f} answers"
        f" without labels, and must be at least {bound.minimum:g}"
    )


def retraining(s: RolloutContext) -> Retraining | None:
    """Return `status.retraining`: a new request if there is a cause and the cooldown is over."""
    current, hook, view = s.status.retraining, s.spec.hooks.retrain, s.observed.retrain
    if hook is None:
        return current
    if current and current.notified_at is None:
        is_notified = view.notified == current.requested_at
        return replace(
            current,
            notified_at=s.now if is_notified else None,
            job=_job(s, hook, current),
            problem="" if is_notified else view.problem,
        )
    is_cool = current is None or s.since(current.requested_at) >= hook.cooldown
    if view.cause and is_cool and not s.status.canary:
        request = Retraining(requested_at=s.now, reason=view.cause, revision=s.status.stable)
        return replace(request, job=_job(s, hook, request))
    ended = s.observed.measurements.get(current.job) if current else None
    return replace(current, problem=f"its Job failed: {ended.error}") if current and ended and ended.error else current


def _job(s: RolloutContext, hook: Retrain, request: Retraining) -> str:
    """Return the name of the Job, which is the same after a restart."""
    if hook.job_template is None:
        return ""
    return f"{s.resource.name}-retrain-{digest([format_time(request.requested_at), request.revision])}"
