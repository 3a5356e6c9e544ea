"""Gauges of the state of each ModelDeployment, read from its status. Used by `telemetry.py`."""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model_operator.api.resource import ObjectKey
from model_operator.api.times import parse_time

Body = Mapping[str, Any]

#: What one resource may bring to the page.
_MOST_SERIES, _LONGEST_LABEL = 2_000, 1_000
#: What reading a status of another form than the operator's ends with.
_NOT_AS_WRITTEN = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError)

_RESOURCE = ("namespace", "name")
#: Fields of `status.analysis.metrics` that count what a revision answered, by unit.
_COUNTS = ("requests", "labels", "answers", "users")
_NEEDED = {"needRequests": "requests", "needLabels": "labels", "needAnswers": "answers"}
#: Name without prefix, help, and labels after namespace and name.
_FAMILIES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "phase": ("1 for the current phase of a ModelDeployment; other phases have no series.", ("phase",)),
    "paused": ("1 for each reason why a rollout waits.", ("reason",)),
    "revision_info": ("1 for each revision that takes part: stable, or canary during a rollout.", ("revision", "role")),
    "canary_weight": ("Percentage of the traffic for the canary.", ()),
    "canary_weight_observed": ("Percentage of the requests that the canary counted, during a rollout.", ()),
    "rollout_step": ("Index of the current step of a rollout; -1 without a rollout.", ()),
    "analysis_verdict": ("1 for the current verdict of each metric of an analysis.", ("metric", "verdict")),
    "analysis_evidence": ("Evidence (e-value) that the canary is worse than stable.", ("metric",)),
    "analysis_evidence_threshold": ("Evidence at which the canary fails.", ("metric",)),
    "analysis_value": ("Measured value of each metric by role: a rate, a quality, a distance.", ("metric", "role")),
    "analysis_samples": ("Observations that an analysis counted, by role and unit.", ("metric", "role", "unit")),
    "analysis_samples_needed": ("Estimated number of observations until a verdict.", ("metric", "unit")),
}


class ResourceStates(Collector):
    """Exposes the state of each ModelDeployment; collected at each scrape, since thousands of series need memory."""

    def __init__(self, shown: Mapping[ObjectKey, Body]) -> None:
        self._shown = shown

    def describe(self) -> Iterator[Metric]:
        """Yield the gauges without samples, so that the registry knows their names."""
        return ResourceStates({}).collect()

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges of every resource."""
        families = {
            name: GaugeMetricFamily(f"modeldeploy_operator_{name}", text, labels=(*_RESOURCE, *labels))
            for name, (text, labels) in _FAMILIES.items()
        }
        for key, status in self._shown.items():
            for name, labels, value in _samples(status):
                families[name].add_metric((*key, *labels), value)
        return iter(families.values())


def problem_of(status: Body) -> str:
    """Return why the state of a resource cannot be exposed; empty if it can.

    The definition leaves parts of `status` open, and others than the operator write them: a team with the right to, or
    who brings a backup back. One page has all resources, and one such status must not keep it from being read.
    """
    try:
        for count, (name, labels, value) in enumerate(_samples(status)):
            if count >= _MOST_SERIES:
                return f"it has more than {_MOST_SERIES} series"
            if any(not isinstance(label, str) or len(label) > _LONGEST_LABEL for label in labels):
                return f"a label of {name} is no text of at most {_LONGEST_LABEL} characters"
            if not isinstance(value, int | float):
                return f"a value of {name} is no number"
            float(value)
        times = [status.get("rolloutStartedAt")]
        for entry in status.get("history", ()):
            if not isinstance(entry["revision"], str) or not isinstance(entry["result"], str):
                return "an entry of its history has no revision or no result"
            times.append(entry.get("at"))
        for moment in filter(None, times):
            parse_time(moment)
    except _NOT_AS_WRITTEN as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return ""


def _samples(status: Body) -> Iterator[tuple[str, tuple[str, ...], float]]:
    weights = status.get("weights", {})
    yield "phase", (status.get("phase", ""),), 1
    yield "canary_weight", (), weights.get("applied", 0)
    yield "rollout_step", (), status.get("currentStepIndex", -1)
    for pause in status.get("pauseConditions", ()):
        yield "paused", (pause["reason"],), 1
    canary = status.get("canaryRevision", "")
    for role, revision in (("stable", status.get("stableRevision", "")), ("canary", canary)):
        if revision:
            yield "revision_info", (revision, role), 1
    if canary and "observed" in weights:
        yield "canary_weight_observed", (), weights["observed"]
    analysis = status.get("analysis") or {}
    # The evidence of a rollout that went back stays visible until the next one starts.
    if analysis.get("revision") in {canary or None, status.get("abortedRevision")}:
        for metric in analysis.get("metrics", ()):
            yield from _of_metric(metric)


def _of_metric(metric: Body) -> Iterator[tuple[str, tuple[str, ...], float]]:
    name = metric["name"]
    yield "analysis_verdict", (name, metric["verdict"]), 1
    if "evidence" in metric:
        yield "analysis_evidence", (name,), metric["evidence"]
    if "failAt" in metric:
        yield "analysis_evidence_threshold", (name,), metric["failAt"]
    for role, value in _values(metric):
        yield "analysis_value", (name, role), value
    for unit in _COUNTS:
        for role, count in metric.get(unit, {}).items():
            yield "analysis_samples", (name, role, unit), count
    for field, unit in _NEEDED.items():
        if field in metric:
            yield "analysis_samples_needed", (name, unit), metric[field]


def _values(metric: Body) -> Iterator[tuple[str, float]]:
    """Yield the measured value by role; one that compares both revisions is the canary's."""
    value = metric.get("badRate", metric.get("value"))
    if isinstance(value, Mapping):
        yield from value.items()
    elif value is not None:
        yield "canary", value
    if "stableValue" in metric:
        yield "stable", metric["stableValue"]
