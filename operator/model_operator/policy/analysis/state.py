"""From what is known of each metric to one verdict, and to what `status.analysis` shows and remembers. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from model_operator.api.analysis import AnalysisSpec, Comparison, Kind, Metric
from model_operator.api.json import Body
from model_operator.api.revision import digest
from model_operator.api.values import replace
from model_operator.observation.values import Outcome, Verdict
from model_operator.policy.analysis import ab_test, feedback_test, rate_test, shadow_test, shift_test, threshold_checks
from model_operator.policy.analysis.ab_test import Compared, Users
from model_operator.policy.analysis.feedback_test import Labels, Quality
from model_operator.policy.analysis.provider_state import ProviderBacked
from model_operator.policy.analysis.rate_test import Counts, Evidence
from model_operator.policy.analysis.shadow_test import Mirrored
from model_operator.policy.analysis.shift_test import Outputs, Shift
from model_operator.policy.analysis.threshold_checks import Measured

Known = Evidence | Quality | Shift | Measured | Compared | Mirrored
#: What one interval says of one metric.
Seen = Counts | Labels | Outputs | Users


@dataclass(frozen=True, slots=True)
class Method:
    """How metrics of one kind are judged; `decides_at` is 1/alpha of a metric's share of alpha.

    `read` reads an entry of `status.analysis.metrics` that `body` wrote.
    """

    start: Callable[[], Any]
    learn: Callable[[Metric, Any, Any, float], Known]
    judge: Callable[[Metric, Any, float], Outcome]
    tell: Callable[[Metric, Any, float], str]
    body: Callable[[Metric, Any, float], dict[str, Any]]
    read: Callable[[Body], Known]


METHODS: Mapping[Kind, Method] = {
    Kind.RATE: Method(
        Evidence,
        lambda metric, known, seen, _: rate_test.learn(metric, known, seen),
        rate_test.judge,
        rate_test.tell_rate,
        rate_test.rate_body,
        rate_test.rate_of,
    ),
    Kind.QUALITY: Method(
        Quality,
        lambda _, known, seen, __: feedback_test.learn(known, seen),
        feedback_test.judge,
        feedback_test.tell_quality,
        feedback_test.quality_body,
        feedback_test.quality_of,
    ),
    Kind.SHIFT: Method(
        Shift,
        shift_test.learn,
        lambda _, known, __: known.outcome,
        lambda metric, known, _: shift_test.tell_shift(metric, known),
        lambda _, known, __: shift_test.shift_body(known),
        shift_test.shift_of,
    ),
    Kind.GUARD: Method(
        Measured,
        lambda _, known, __, ___: known,
        lambda metric, known, _: (
            threshold_checks.judge_guard(metric.guard, known) if metric.guard else Outcome.UNDECIDED
        ),
        lambda metric, known, _: threshold_checks.tell_guard(metric.name, metric.guard, known) if metric.guard else "",
        lambda _, known, __: threshold_checks.guard_body(known),
        threshold_checks.measured_of,
    ),
    Kind.MIRRORED: Method(
        Mirrored,
        lambda metric, known, seen, _: shadow_test.learn(metric, known, seen),
        shadow_test.judge,
        shadow_test.tell,
        shadow_test.body,
        shadow_test.read,
    ),
    Kind.COMPARISON: Method(
        Compared,
        lambda metric, known, seen, _: ab_test.learn(_test(metric), known, seen),
        lambda metric, known, _: ab_test.judge(_test(metric), known),
        lambda metric, known, _: ab_test.tell(metric, _test(metric), known),
        lambda metric, known, _: ab_test.body(_test(metric), known),
        ab_test.read,
    ),
}


_WITHOUT_A_WINNER = (Outcome.SAMPLE_RATIO_MISMATCH, Outcome.NO_DIFFERENCE)


def _test(metric: Metric) -> Comparison:
    if metric.comparison is None:
        raise TypeError(f"{metric.name} is no comparison")
    return metric.comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisState:
    """What is known in one rollout, by metric. `thresholds` are the seconds above which a request counts as slow."""

    known: Mapping[str, Known] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def of(self, metric: Metric) -> Known:
        """Return what is known of one metric."""
        known: Known = self.known.get(metric.name) or METHODS[metric.kind].start()
        return known

    def measured(self, metric: Metric) -> Measured:
        """Return what a guard has been told."""
        known = self.of(metric)
        return known if isinstance(known, Measured) else Measured()

    def problem(self, metric: Metric) -> tuple[str, datetime | None]:
        """Return what a metric's provider failed with at the last time, and since when; empty when it answers."""
        known = self.of(metric)
        return (known.problem, known.problem_since) if isinstance(known, ProviderBacked) else ("", None)

    def having(self, metric: Metric, known: Known) -> "AnalysisState":
        """Return the knowledge with what is known of one metric now."""
        return replace(self, known={**self.known, metric.name: known})


def learn_all(spec: AnalysisSpec, knowledge: AnalysisState, interval: Mapping[str, Seen]) -> AnalysisState:
    """Return the knowledge with one more closed interval; a metric of which nothing was seen stays as it is."""
    decides_at = spec.fail_at
    learnt = {
        metric.name: METHODS[metric.kind].learn(metric, knowledge.of(metric), interval[metric.name], decides_at)
        for metric in spec.metrics
        if metric.name in interval
    }
    return replace(knowledge, known={**knowledge.known, **learnt})


def verdict(spec: AnalysisSpec, knowledge: AnalysisState) -> Verdict:
    """Return one word on the canary: Fail when any metric fails, Pass when all that can pass have passed."""
    decides_at = spec.fail_at
    bodies = {metric.name: _metric_body(knowledge, metric, decides_at) for metric in spec.metrics}
    outcomes = {name: Outcome(body["verdict"]) for name, body in bodies.items()}
    can_pass = [metric.name for metric in spec.metrics if metric.can_pass]
    failed = [name for name, outcome in outcomes.items() if outcome is Outcome.FAIL]
    waiting = [name for name in can_pass if outcomes[name] is not Outcome.PASS]
    if failed:
        outcome, told = Outcome.FAIL, failed
    elif decided := [name for name, outcome in outcomes.items() if outcome in _WITHOUT_A_WINNER]:
        outcome, told = outcomes[decided[0]], decided
    elif waiting or not can_pass:
        outcome, told = Outcome.UNDECIDED, waiting or list(bodies)
    else:
        outcome, told = Outcome.PASS, list(bodies)
    problems = {metric.name: knowledge.problem(metric) for metric in spec.metrics if knowledge.problem(metric)[0]}
    return Verdict(
        outcome=outcome,
        message="; ".join(bodies[name]["message"] for name in told),
        metrics=tuple(bodies.values()),
        problem="; ".join(bodies[name]["message"] for name in problems),
        problem_since=min((since for _, since in problems.values() if since), default=None),
    )


def remembered(spec: AnalysisSpec, body: Body | None) -> AnalysisState:
    """Read back what `status.analysis` remembers; evidence that was taken by another rule is worth nothing."""
    entries = {(entry["name"], entry.get("rule")): entry for entry in (body or {}).get("metrics", ())}
    known = {
        metric: entries[metric.name, _rule(metric)]
        for metric in spec.metrics
        if (metric.name, _rule(metric)) in entries
    }
    return AnalysisState(
        known={metric.name: METHODS[metric.kind].read(entry) for metric, entry in known.items()},
        thresholds={metric.name: entry["threshold"] for metric, entry in known.items() if "threshold" in entry},
    )


def _metric_body(knowledge: AnalysisState, metric: Metric, decides_at: float) -> dict[str, Any]:
    """Return what status shows and remembers of one metric; its message has the numbers that decide it in one line."""
    method, known, threshold = METHODS[metric.kind], knowledge.of(metric), knowledge.thresholds.get(metric.name)
    body = {
        "name": metric.name,
        "verdict": str(method.judge(metric, known, decides_at)),
        "message": method.tell(metric, known, decides_at),
        "rule": _rule(metric),
        **method.body(metric, known, decides_at),
    }
    if threshold is not None:
        named = f"{metric.name} above {threshold * 1000:g} ms"
        return {**body, "message": body["message"].replace(metric.name, named, 1), "threshold": threshold}
    return body


@cache
def _rule(metric: Metric) -> str:
    """Name the rule that evidence is taken by; it is asked for at every look."""
    return digest([repr(metric)])
