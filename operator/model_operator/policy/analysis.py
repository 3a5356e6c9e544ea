"""From the evidence on each metric to one verdict, and to what `status.analysis` shows and remembers. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from model_operator.api.analysis import AnalysisSpec, Metric
from model_operator.api.revision import digest
from model_operator.policy.guards import Measured, guard_body, judge_guard, measured_of, tell_guard
from model_operator.policy.judge import Counts, Evidence, e_value, judge, learn, needed
from model_operator.policy.observed import Outcome, Verdict

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """All evidence of one rollout, by metric. `thresholds` are the seconds above which a request counts as slow."""

    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    guards: Mapping[str, Measured] = field(default_factory=dict)

    def of(self, metric: Metric) -> Evidence:
        """Return the evidence on one metric."""
        return self.evidence.get(metric.name) or Evidence()

    def measured(self, metric: Metric) -> Measured:
        """Return what a guard has been told."""
        return self.guards.get(metric.name) or Measured()

    def with_guard(self, metric: Metric, known: Measured) -> "Knowledge":
        """Return the knowledge with a guard's new memory."""
        return replace(self, guards={**self.guards, metric.name: known})


def learn_all(spec: AnalysisSpec, knowledge: Knowledge, interval: Mapping[str, Counts]) -> Knowledge:
    """Return the knowledge with one more closed interval; a metric without counts stays as it is."""
    learnt = {
        metric.name: learn(metric, knowledge.of(metric), interval[metric.name])
        for metric in spec.metrics
        if metric.name in interval
    }
    return replace(knowledge, evidence={**knowledge.evidence, **learnt})


def verdict(spec: AnalysisSpec, knowledge: Knowledge) -> Verdict:
    """Return one word on the canary: Fail when any metric fails, Pass when all that can pass have passed."""
    outcomes = {metric: _judge(spec, knowledge, metric) for metric in spec.metrics}
    body = tuple(_metric_body(spec, knowledge, metric, outcome) for metric, outcome in outcomes.items())
    failed = [metric for metric, outcome in outcomes.items() if outcome is Outcome.FAIL]
    waiting = [metric for metric, outcome in outcomes.items() if metric.can_pass and outcome is not Outcome.PASS]
    if failed:
        outcome, told = Outcome.FAIL, failed
    elif waiting or not any(metric.can_pass for metric in spec.metrics):
        outcome, told = Outcome.UNDECIDED, waiting or list(spec.metrics)
    else:
        outcome, told = Outcome.PASS, list(spec.metrics)
    problems = [metric for metric in spec.metrics if knowledge.measured(metric).problem]
    since = [at for metric in problems if (at := knowledge.measured(metric).problem_since)]
    return Verdict(
        outcome=outcome,
        message="; ".join(tell(spec, knowledge, metric) for metric in told),
        metrics=body,
        problem="; ".join(tell(spec, knowledge, metric) for metric in problems),
        problem_since=min(since, default=None),
    )


def _judge(spec: AnalysisSpec, knowledge: Knowledge, metric: Metric) -> Outcome:
    if metric.guard is not None:
        return judge_guard(metric.guard, knowledge.measured(metric))
    return judge(metric, knowledge.of(metric), spec.fail_at)


def tell(spec: AnalysisSpec, knowledge: Knowledge, metric: Metric) -> str:
    """Return the numbers that decide one metric, in one line."""
    if metric.guard is not None:
        return tell_guard(metric.name, metric.guard, knowledge.measured(metric))
    evidence, total = knowledge.of(metric), knowledge.of(metric).total
    if total.canary == 0:
        return f"{metric.name}: the canary has answered no request yet"
    threshold = knowledge.thresholds.get(metric.name)
    what = metric.name if threshold is None else f"{metric.name} above {threshold * 1000:g} ms"
    line = (
        f"{what}: canary {total.canary_bad} of {total.canary} ({_rate(total.canary_bad, total.canary):.2%}),"
        f" stable {total.stable_bad} of {total.stable} ({_rate(total.stable_bad, total.stable):.2%})"
    )
    if metric.fail_ratio is not None:
        line += f", E {e_value(evidence.fail):.3g} of {spec.fail_at:.0f}"
    more = needed(metric, evidence, spec.fail_at)
    if judge(metric, evidence, spec.fail_at) is Outcome.UNDECIDED and more is not None:
        line += f", needs about {more} more requests"
    return line


def remembered(spec: AnalysisSpec, body: Body | None) -> Knowledge:
    """Read back what `status.analysis` remembers; evidence that was taken by another rule is worth nothing."""
    known = {(entry["name"], entry.get("rule")): entry for entry in (body or {}).get("metrics", ())}
    entries = {
        metric.name: known[metric.name, _rule(metric)]
        for metric in spec.metrics
        if (metric.name, _rule(metric)) in known
    }
    return Knowledge(
        evidence={name: _evidence_of(entry) for name, entry in entries.items() if "state" in entry},
        guards={name: measured_of(entry) for name, entry in entries.items() if "looks" in entry},
        thresholds={name: entry["threshold"] for name, entry in entries.items() if "threshold" in entry},
    )


def _metric_body(spec: AnalysisSpec, knowledge: Knowledge, metric: Metric, outcome: Outcome) -> dict[str, Any]:
    if metric.guard is not None:
        head = {"name": metric.name, "verdict": str(outcome), "rule": _rule(metric)}
        return {**head, **guard_body(knowledge.measured(metric))}
    evidence = knowledge.of(metric)
    total = evidence.total
    body: dict[str, Any] = {
        "name": metric.name,
        "verdict": str(outcome),
        "rule": _rule(metric),
        "failAt": spec.fail_at,
        "requests": {"canary": total.canary, "stable": total.stable},
        "bad": {"canary": total.canary_bad, "stable": total.stable_bad},
        "badRate": {
            "canary": round(_rate(total.canary_bad, total.canary), 6),
            "stable": round(_rate(total.stable_bad, total.stable), 6),
        },
        # Floats as they are: what is read back is what was known, to the last bit.
        "state": {
            "fail": list(evidence.fail),
            "passRatio": list(evidence.pass_ratio),
            "passRate": list(evidence.pass_rate),
        },
    }
    if metric.fail_ratio is not None:
        body["evidence"] = round(e_value(evidence.fail), 3)
    if (more := needed(metric, evidence, spec.fail_at)) is not None and outcome is Outcome.UNDECIDED:
        body["needRequests"] = more
    if metric.name in knowledge.thresholds:
        body["threshold"] = knowledge.thresholds[metric.name]
    return body


def _evidence_of(entry: Body) -> Evidence:
    state, requests, bad = entry["state"], entry["requests"], entry["bad"]
    return Evidence(
        fail=_floats(state["fail"]),
        pass_ratio=_floats(state["passRatio"]),
        pass_rate=_floats(state["passRate"]),
        total=Counts(
            canary=requests["canary"], canary_bad=bad["canary"], stable=requests["stable"], stable_bad=bad["stable"]
        ),
    )


def _rule(metric: Metric) -> str:
    return digest([repr(metric)])


def _floats(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _rate(bad: int, requests: int) -> float:
    return bad / requests if requests else 0.0
