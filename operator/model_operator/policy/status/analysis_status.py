"""`status.analysis`: the results of all metrics as JSON, with the state that a restart restores."""

from collections.abc import Mapping, Sequence
from typing import Any

from model_operator.api.analysis import AnalysisSpec
from model_operator.api.times import format_time
from model_operator.observation.values import Outcome, Verdict
from model_operator.policy.analysis.registry import metric_tests
from model_operator.policy.analysis.state import rule_of
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.status.analysis_samples import append_sample, samples_of

_PHASES = {
    Outcome.PASS: "Passed",
    Outcome.FAIL: "Failed",
    Outcome.NO_DIFFERENCE: "Inconclusive",
    Outcome.SAMPLE_RATIO_MISMATCH: "Inconclusive",
}


def analysis_status(s: RolloutContext) -> Mapping[str, Any] | None:
    """Return `status.analysis`; after a rollout the last one is kept."""
    verdict, before = s.observed.verdict, s.status.analysis or {}
    # In the pass that ends a rollout, status contains the evidence that ended it.
    status = s.status if s.status.canary else s.resource.status
    if not status.canary or not verdict.metrics:
        return s.status.analysis
    metrics, weight = metric_entries(s.spec.analysis, verdict), status.weights.applied
    return {
        "phase": _PHASES.get(verdict.outcome, "Running"),
        "revision": status.canary,
        "stable": status.stable,
        "startedAt": before.get("startedAt", format_time(s.now)),
        "metrics": metrics,
        "samples": list(append_sample(samples_of(before), weight=weight, metrics=metrics, now=s.now)),
    }


def metric_entries(spec: AnalysisSpec, verdict: Verdict) -> Sequence[dict[str, Any]]:
    """Return `status.analysis.metrics`: the outcome of each metric, its numbers, and its state."""
    tests = {test.metric.name: test for test in metric_tests(spec)}
    return [
        {
            "name": result.name,
            "verdict": str(result.outcome),
            "message": result.message,
            "rule": rule_of(tests[result.name].metric),
            **tests[result.name].to_status(result.state),
        }
        for result in verdict.metrics
    ]
