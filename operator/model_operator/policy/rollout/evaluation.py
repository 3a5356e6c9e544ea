"""The step `evaluate`: the Jobs that measure revisions on labelled data, and the decision on their results. Pure.

The name of a Job is derived from the step, the canary and the revision that it measures, so that a restarted operator
finds the same Job; the Job exists as long as the step. A Job without a result is not a verdict: the rollout pauses with
`EvaluationError`, and resumes when there is a result (after the step was corrected, or the Job deleted).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from model_operator.api.analysis import GROUP_DIFFERENCES
from model_operator.api.revision import digest
from model_operator.api.status import Mode, Phase
from model_operator.api.steps import Evaluate, Limit
from model_operator.api.values import replace
from model_operator.observation.values import Outcome
from model_operator.policy.rollout.context import RolloutContext

#: Metrics for which less is better; for all others, more is better.
_LESS_IS_BETTER = frozenset({"log-loss", "mse", "mae", *GROUP_DIFFERENCES})


class EvaluationPhase(StrEnum):
    """Phase of an evaluation (`status.evaluation.phase`)."""

    RUNNING = "Running"
    PASSED = "Passed"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitResult:
    """One metric of both revisions, compared with its limit; None is not measured."""

    limit: Limit
    canary: float | None
    stable: float | None

    @property
    def is_met(self) -> bool:
        """Whether the canary was measured and is within all bounds of the limit."""
        limit, value = self.limit, self.canary
        return value is not None and (
            (limit.minimum is None or value >= limit.minimum)
            and (limit.maximum is None or value <= limit.maximum)
            # A rounding error in the last bit is not a drop.
            and (limit.max_drop is None or self._drop(value) <= limit.max_drop + 1e-12)
        )

    @property
    def message(self) -> str:
        """Value and bounds, as text."""
        limit, bounds = self.limit, []
        if limit.minimum is not None:
            bounds.append(f"at least {limit.minimum:g}")
        if limit.maximum is not None:
            bounds.append(f"at most {limit.maximum:g}")
        if self.stable is not None and limit.max_drop is not None:
            bounds.append(f"stable {self.stable:.4g}, at most {limit.max_drop:g} worse")
        value = "not measured" if self.canary is None else f"{self.canary:.4g}"
        return f"{limit.name} {value}" + (f" ({', '.join(bounds)})" if bounds else "")

    def to_status(self) -> dict[str, Any]:
        """Return an entry of `status.evaluation.metrics`."""
        limit = self.limit
        bounds = {"min": limit.minimum, "max": limit.maximum, "maxDropFromStable": limit.max_drop}
        numbers = {"name": limit.name, "canary": self.canary, "stable": self.stable, **bounds}
        entry = {name: number for name, number in numbers.items() if number is not None}
        return {**entry, "verdict": str(Outcome.PASS if self.is_met else Outcome.FAIL)}

    def _drop(self, value: float) -> float:
        """Return the drop of the canary below stable; 0 without a value of stable."""
        if self.stable is None:
            return 0.0
        return value - self.stable if self.limit.name in _LESS_IS_BETTER else self.stable - value


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """Result of the evaluation of a step: empty while it runs, then one result for each limit."""

    step: int
    dataset: str
    phase: EvaluationPhase = EvaluationPhase.RUNNING
    rows: int = 0
    metrics: tuple[LimitResult, ...] = ()
    groups: Mapping[str, Mapping[str, Mapping[str, float | None]]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """The deciding numbers, and which groups have too few rows, as text."""
        is_good = self.phase is EvaluationPhase.PASSED
        numbers = [metric.message for metric in self.metrics if is_good or not metric.is_met]
        return "; ".join((*numbers, *self.notes))

    def to_status(self) -> dict[str, Any]:
        """Return `status.evaluation`."""
        head = {"phase": str(self.phase), "step": self.step, "dataset": self.dataset}
        if self.phase is EvaluationPhase.RUNNING:
            return head
        return {
            **head,
            "rows": self.rows,
            "metrics": [metric.to_status() for metric in self.metrics],
            **({"groups": self.groups} if self.groups else {}),
            "message": self.message,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One Job: `job` is its name, `revision` the revision that it measures."""

    job: str
    revision: str
    step: Evaluate


def evaluations(s: RolloutContext) -> Sequence[Evaluation]:
    """Return the desired Jobs: that of the canary, and that of stable if the two are compared."""
    step = s.current_step
    is_on = s.status.canary and s.status.phase in (Phase.PROGRESSING, Phase.PAUSED) and not s.is_superseded
    if not is_on or not isinstance(step, Evaluate):
        return ()
    revisions = [s.status.canary, *([s.status.stable] if compares(s, step) else [])]
    return tuple(Evaluation(job=job_name(s, step, revision), revision=revision, step=step) for revision in revisions)


def compares(s: RolloutContext, step: Evaluate) -> bool:
    """Whether stable is measured too; a stable revision without ready pods must not block its own fix."""
    return step.compares and s.status.mode is Mode.STEPS


def job_name(s: RolloutContext, step: Evaluate, revision: str) -> str:
    """Return the name of the Job that measures a revision."""
    return f"{s.resource.name}-eval-{digest([repr(step), s.status.step_index, s.status.canary, revision])}"


def evaluation_error(s: RolloutContext) -> str:
    """Return why the evaluation of the step has no result; empty if it has one, or is still running."""
    found = [(one.revision, s.observed.measurements.get(one.job)) for one in evaluations(s)]
    return "; ".join(
        f"revision {revision}: {measurement.error}"
        for revision, measurement in found
        if measurement and measurement.error
    )


def evaluation_hindrance(s: RolloutContext) -> str:
    """Return what keeps the evaluation of the step from measuring; empty if it is running."""
    found = [(one.revision, s.observed.hindrances.get(one.job)) for one in evaluations(s)]
    return "; ".join(f"revision {revision}: {why}" for revision, why in found if why)


def evaluate(s: RolloutContext, step: Evaluate) -> EvaluationResult:
    """Return the result of the step's evaluation so far."""
    running = EvaluationResult(step=s.status.step_index, dataset=step.dataset)
    found = [s.observed.measurements.get(one.job) for one in evaluations(s)]
    measured = [one for one in found if one is not None and not one.error]
    if not found or len(measured) < len(found):
        return running
    canary, stable = measured[0], measured[1] if len(measured) > 1 else None
    metrics = tuple(
        LimitResult(
            limit=limit,
            canary=canary.values.get(limit.name),
            stable=stable.values.get(limit.name) if stable else None,
        )
        for limit in step.limits
    )
    is_good = all(metric.is_met for metric in metrics)
    phase = EvaluationPhase.PASSED if is_good else EvaluationPhase.FAILED
    return replace(running, phase=phase, rows=canary.rows, metrics=metrics, groups=canary.groups, notes=canary.notes)
