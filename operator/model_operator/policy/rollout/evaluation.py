"""The step `evaluate`: which Jobs measure which revisions on labelled data, and what their results decide. Pure.

A Job's name follows from the step, the canary and the revision that it measures, so that whoever is restarted finds the
same one; it lives as long as the step does. A Job that gives no result is nobody's verdict: the rollout pauses with
`EvaluationError`, and goes on by itself when there is a result (the step was corrected, or the Job deleted).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_operator.api.revision import digest
from model_operator.api.status import Mode, Phase
from model_operator.api.steps import Evaluate, Limit
from model_operator.observation.values import Measurement, Outcome
from model_operator.policy.rollout.context import RolloutContext

#: Measures of which less is better; of all others more is.
_LESS_IS_BETTER = frozenset({"log-loss", "mse", "mae"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One Job: `job` is its name, `revision` the one that it measures."""

    job: str
    revision: str
    step: Evaluate


def evaluations(s: RolloutContext) -> Sequence[Evaluation]:
    """Return the Jobs that shall exist: the canary's, and stable's where they are compared."""
    step = s.current_step
    is_on = s.status.canary and s.status.phase in (Phase.PROGRESSING, Phase.PAUSED) and not s.is_superseded
    if not is_on or not isinstance(step, Evaluate):
        return ()
    revisions = [s.status.canary, *([s.status.stable] if compares(s, step) else [])]
    return tuple(Evaluation(job=job_name(s, step, revision), revision=revision, step=step) for revision in revisions)


def compares(s: RolloutContext, step: Evaluate) -> bool:
    """Whether stable is measured as well; a stable revision that serves nobody must not block its own mending."""
    return step.compares and s.status.mode is Mode.STEPS


def job_name(s: RolloutContext, step: Evaluate, revision: str) -> str:
    """Return the name of the Job that measures a revision."""
    return f"{s.resource.name}-eval-{digest([repr(step), s.status.step_index, s.status.canary, revision])}"


def evaluation_error(s: RolloutContext) -> str:
    """Return why the step's evaluation gives no result; empty when it does, or may still."""
    found = [(one.revision, s.observed.measurements.get(one.job)) for one in evaluations(s)]
    return "; ".join(f"revision {revision}: {seen.error}" for revision, seen in found if seen and seen.error)


def evaluation_hindrance(s: RolloutContext) -> str:
    """Return what keeps the step's evaluation from measuring; empty when it gets on."""
    found = [(one.revision, s.observed.hindrances.get(one.job)) for one in evaluations(s)]
    return "; ".join(f"revision {revision}: {why}" for revision, why in found if why)


def evaluation_body(s: RolloutContext, step: Evaluate) -> dict[str, Any]:
    """Return what `status.evaluation` shows: phase, and the table of measures with the numbers that decided."""
    head = {"step": s.status.step_index, "dataset": step.dataset}
    seen = [s.observed.measurements.get(one.job) for one in evaluations(s)]
    if not seen or any(one is None or one.error for one in seen):
        return {"phase": "Running", **head}
    canary, stable = seen[0] or Measurement(), seen[1] if len(seen) > 1 else None
    rows = [_row(limit, canary, stable) for limit in step.limits]
    is_good = all(row["verdict"] == Outcome.PASS for row in rows)
    return {
        "phase": "Passed" if is_good else "Failed",
        **head,
        "rows": canary.rows,
        "metrics": rows,
        "message": "; ".join(_told(row) for row in rows if is_good or row["verdict"] != Outcome.PASS),
    }


def _row(limit: Limit, canary: Measurement, stable: Measurement | None) -> dict[str, Any]:
    value = canary.values.get(limit.name)
    other = stable.values.get(limit.name) if stable else None
    bounds = {"min": limit.minimum, "max": limit.maximum, "maxDropFromStable": limit.max_drop}
    numbers = {"name": limit.name, "canary": value, "stable": other, **bounds}
    row = {name: number for name, number in numbers.items() if number is not None}
    return {**row, "verdict": str(Outcome.PASS if _holds(limit, value, other) else Outcome.FAIL)}


def _holds(limit: Limit, value: float | None, stable: float | None) -> bool:
    if value is None:
        return False
    drop = 0.0 if stable is None else (value - stable if limit.name in _LESS_IS_BETTER else stable - value)
    return (
        (limit.minimum is None or value >= limit.minimum)
        and (limit.maximum is None or value <= limit.maximum)
        # A rounding error of the last bit is no drop.
        and (limit.max_drop is None or drop <= limit.max_drop + 1e-12)
    )


def _told(row: Mapping[str, Any]) -> str:
    bounds = [
        text.format(row[name])
        for name, text in (("min", "at least {:g}"), ("max", "at most {:g}"))
        if row.get(name) is not None
    ]
    if "stable" in row and "maxDropFromStable" in row:
        bounds.append(f"stable {row['stable']:.4g}, at most {row['maxDropFromStable']:g} worse")
    value = f"{row['canary']:.4g}" if "canary" in row else "not measured"
    return f"{row['name']} {value}" + (f" ({', '.join(bounds)})" if bounds else "")
