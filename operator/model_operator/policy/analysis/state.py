"""State of the analysis of one canary, and the verdict that follows from all metrics."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from model_operator.api.analysis import AnalysisSpec, Metric
from model_operator.api.revision import digest
from model_operator.errors import InvalidSpec, ProviderError
from model_operator.observation.values import MetricResult, MetricState, Outcome, Verdict
from model_operator.policy.analysis.metric_test import (
    CountedTest,
    Counters,
    IntervalCounts,
    MetricTest,
    Pair,
    PairedTest,
    QueriedTest,
)
from model_operator.policy.analysis.provider_state import ProviderState
from model_operator.policy.analysis.registry import metric_tests

Body = Mapping[str, Any]

_WITHOUT_A_WINNER = (Outcome.SAMPLE_RATIO_MISMATCH, Outcome.NO_DIFFERENCE)


@dataclass(frozen=True, slots=True)
class AnalysisState:
    """States of all metrics of one rollout, by name."""

    metrics: Mapping[str, MetricState] = field(default_factory=dict)

    def of(self, test: MetricTest[Any]) -> Any:
        """Return the state of a test, with the type that the test requires."""
        return self.metrics.get(test.metric.name) or test.start()

    def with_state(self, test: MetricTest[Any], state: MetricState) -> "AnalysisState":
        """Return the analysis with another state of one test."""
        return AnalysisState({**self.metrics, test.metric.name: state})


def calibrate(spec: AnalysisSpec, analysis: AnalysisState, stable: Mapping[float, int]) -> AnalysisState:
    """Return the state after calibration with stable's histogram of durations, which sets the thresholds of latency."""
    for test in metric_tests(spec):
        if isinstance(test, CountedTest):
            before = analysis.of(test)
            after = test.calibrate(before, stable)
            analysis = analysis if after is before else analysis.with_state(test, after)
    return analysis


def count(
    spec: AnalysisSpec, analysis: AnalysisState, before: Counters, after: Counters, *, is_canary: bool
) -> Mapping[str, IntervalCounts]:
    """Return the counts of one server between two samples, for each metric that can be counted."""
    counted = {
        test.metric.name: test.count(analysis.of(test), before, after, is_canary=is_canary)
        for test in metric_tests(spec)
        if isinstance(test, CountedTest)
    }
    return {name: counts for name, counts in counted.items() if counts is not None}


def has_counts(counts: IntervalCounts) -> bool:
    """Whether anything was counted."""
    return counts != type(counts)()


def update(spec: AnalysisSpec, analysis: AnalysisState, interval: Mapping[str, IntervalCounts]) -> AnalysisState:
    """Return the state with one more closed interval; a metric without counts stays as it is."""
    updated = {
        test.metric.name: test.update(analysis.of(test), interval[test.metric.name])
        for test in metric_tests(spec)
        if isinstance(test, CountedTest) and test.metric.name in interval
    }
    return AnalysisState({**analysis.metrics, **updated})


def apply_answer(
    analysis: AnalysisState, test: QueriedTest[Any], answer: Sequence[float | None] | ProviderError, now: datetime
) -> AnalysisState:
    """Return the state after a provider's answer to the queries of a test, or after its error."""
    state = analysis.of(test)
    try:
        if isinstance(answer, ProviderError):
            raise answer
        return analysis.with_state(test, test.apply_answer(state, answer))
    except (ProviderError, InvalidSpec) as error:
        return analysis.with_state(test, state.failed(str(error), now))


def apply_pairs(
    analysis: AnalysisState, test: PairedTest[Any], answer: Sequence[Pair] | ProviderError, now: datetime
) -> AnalysisState:
    """Return the state after a poll of both revisions' predictions, or after its error."""
    state = analysis.of(test)
    if isinstance(answer, ProviderError):
        return analysis.with_state(test, state.failed(str(answer), now))
    return analysis.with_state(test, test.apply_pairs(state, answer))


def is_provider_backed(spec: AnalysisSpec) -> bool:
    """Whether a metric depends on an external provider, which may be unavailable."""
    return any(isinstance(test, QueriedTest | PairedTest) for test in metric_tests(spec))


def verdict(spec: AnalysisSpec, analysis: AnalysisState) -> Verdict:
    """Return the verdict on the canary.

    It is Fail if any metric fails, and Pass if all metrics that can pass have passed and none is suspicious.
    """
    tests = metric_tests(spec)
    results = [_result(test, analysis.of(test)) for test in tests]
    needed = {test.metric.name for test in tests if test.can_pass}
    suspicious = {test.metric.name for test in tests if test.is_suspicious(analysis.of(test))}
    outcome, deciding = _decide(results, needed, suspicious)
    outages = [result for result in results if result.problem]
    return Verdict(
        outcome=outcome,
        message="; ".join(result.message for result in deciding),
        metrics=tuple(results),
        problem="; ".join(result.message for result in outages),
        problem_since=min((result.problem_since for result in outages if result.problem_since), default=None),
    )


def _decide(
    results: Sequence[MetricResult], needed: Set[str], suspicious: Set[str]
) -> tuple[Outcome, Sequence[MetricResult]]:
    """Return the outcome, and the metrics that it follows from."""
    if failed := [result for result in results if result.outcome is Outcome.FAIL]:
        return Outcome.FAIL, failed
    if undecidable := [result for result in results if result.outcome in _WITHOUT_A_WINNER]:
        return undecidable[0].outcome, undecidable
    awaited = {result.name for result in results if result.outcome is not Outcome.PASS} & (needed | suspicious)
    waiting = [result for result in results if result.name in awaited]
    if waiting or not needed:
        return Outcome.UNDECIDED, waiting or results
    return Outcome.PASS, results


def _result(test: MetricTest[Any], state: Any) -> MetricResult:
    outage = state if isinstance(state, ProviderState) else ProviderState()
    return MetricResult(
        name=test.metric.name,
        outcome=test.verdict(state),
        message=test.message(state),
        state=state,
        problem=outage.problem,
        problem_since=outage.problem_since,
    )


def from_status(spec: AnalysisSpec, body: Body | None) -> AnalysisState:
    """Restore the state from `status.analysis`; evidence that was gathered under another rule is discarded."""
    entries = {(entry["name"], entry.get("rule")): entry for entry in (body or {}).get("metrics", ())}
    return AnalysisState(
        {
            test.metric.name: test.from_status(entries[test.metric.name, rule_of(test.metric)])
            for test in metric_tests(spec)
            if (test.metric.name, rule_of(test.metric)) in entries
        }
    )


def rule_of(metric: Metric) -> str:
    """Return the digest of the rule that evidence is gathered under.

    The status of running rollouts contains it: a release that changes it for a metric discards their evidence.
    """
    return _digest_of(repr(metric))


# By the text and not by the metric: 2 and 2.0 are equal, and the rules of both are written in status.
@cache
def _digest_of(text: str) -> str:
    return digest([text])
