"""From two looks at one server's counters to counts of requests and bad ones, by metric. Pure."""

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol

from model_operator.api.analysis import ERRORS, LATENCY, AnalysisSpec, Kind, Metric
from model_operator.api.sums import SumStats
from model_operator.api.values import replace
from model_operator.observation.values import Traffic
from model_operator.policy.analysis.ab_test import Users
from model_operator.policy.analysis.feedback_test import Labels
from model_operator.policy.analysis.rate_test import Counts
from model_operator.policy.analysis.shift_test import Outputs
from model_operator.policy.analysis.state import AnalysisState, Seen

#: The part of stable's requests that is slower than what counts as slow, where the spec does not say it.
_SLOW_QUANTILE = 0.99


class Counters(Protocol):
    """Counters since a server's process began (`ports.PodSample`)."""

    @property
    def requests(self) -> int:
        """Answered predictions."""

    @property
    def assigned(self) -> int:
        """Users of an A/B test whom a router drew for the revision."""

    @property
    def errors(self) -> int:
        """Those answered with 5xx."""

    @property
    def durations(self) -> Mapping[float, int]:
        """Predictions that took at most so many seconds, by the histogram's bucket edges (inf is one)."""

    @property
    def outputs(self) -> Mapping[str, float]:
        """Predictions by class or bucket."""

    @property
    def quality(self) -> Mapping[str, SumStats]:
        """Labelled answers, by metric."""


def increases(
    spec: AnalysisSpec, knowledge: AnalysisState, before: Counters, after: Counters, *, is_canary: bool
) -> Mapping[str, Seen]:
    """Return what one server counted between two looks, for each metric that can be counted."""
    counted: dict[str, Seen] = {}
    for metric in spec.metrics:
        if metric.kind is Kind.QUALITY:
            counted[metric.name] = _labels(metric, before, after, is_canary=is_canary)
        elif metric.kind is Kind.COMPARISON:
            drawn = max(after.assigned - before.assigned, 0)
            counted[metric.name] = Users(
                drawn=Traffic(canary=drawn) if is_canary else Traffic(stable=drawn),
                answers=_labels(metric, before, after, is_canary=is_canary),
            )
        elif metric.kind is Kind.SHIFT:
            bins = _grown(before.outputs, after.outputs)
            counted[metric.name] = Outputs(canary=bins) if is_canary else Outputs(stable=bins)
        elif metric.name == ERRORS or metric.name in knowledge.thresholds:
            total, bad = _requests(metric, knowledge, before, after)
            counted[metric.name] = (
                Counts(canary=total, canary_bad=bad) if is_canary else Counts(stable=total, stable_bad=bad)
            )
    return counted


def has_counts(seen: Seen) -> bool:
    """Whether anything was counted."""
    return seen not in (Counts(), Labels(), Outputs(), Users())


def add(one: Seen, other: Seen) -> Seen:
    """Return two counts of one metric together."""
    if isinstance(one, Counts) and isinstance(other, Counts):
        return one + other
    if isinstance(one, Labels) and isinstance(other, Labels):
        return one + other
    if isinstance(one, Outputs) and isinstance(other, Outputs):
        return one + other
    if isinstance(one, Users) and isinstance(other, Users):
        return one + other
    raise TypeError(f"{one} and {other} are not of one metric")


def _labels(metric: Metric, before: Counters, after: Counters, *, is_canary: bool) -> Labels:
    """Return what feedback told; nothing where a provider counts the answers."""
    if metric.comparison is not None and metric.comparison.source is not None:
        return Labels()
    grown = after.quality.get(metric.name, SumStats()) - before.quality.get(metric.name, SumStats())
    return Labels(canary=grown) if is_canary else Labels(stable=grown)


def _requests(metric: Metric, knowledge: AnalysisState, before: Counters, after: Counters) -> tuple[int, int]:
    """Return requests and bad ones."""
    if metric.name == ERRORS:
        total, bad = after.requests - before.requests, after.errors - before.errors
    else:
        threshold = knowledge.thresholds[metric.name]
        total = _at_most(after, math.inf) - _at_most(before, math.inf)
        bad = total - (_at_most(after, threshold) - _at_most(before, threshold))
    return max(total, 0), max(bad, 0)


def _grown(before: Mapping[str, float], after: Mapping[str, float]) -> Mapping[str, float]:
    grown = {name: count - before.get(name, 0) for name, count in after.items()}
    return {name: count for name, count in grown.items() if count > 0}


def with_thresholds(spec: AnalysisSpec, knowledge: AnalysisState, stable: Mapping[float, int]) -> AnalysisState:
    """Return the knowledge with what counts as slow, frozen for the rollout as soon as stable has answered.

    It is the histogram's bucket edge at or above `slowerThan`, or at or above stable's 99th percentile: between two
    edges a histogram knows nothing. Above the last edge nothing is counted, so the last edge is the largest threshold.
    """
    missing = [m for m in spec.metrics if m.name == LATENCY and m.name not in knowledge.thresholds]
    edges = sorted(edge for edge in stable if edge != math.inf)
    if not missing or not edges or not stable.get(math.inf):
        return knowledge
    found = {metric.name: _edge(edges, metric.slower_than, stable) for metric in missing}
    return replace(knowledge, thresholds={**knowledge.thresholds, **found})


def _edge(edges: list[float], slower_than: timedelta | None, stable: Mapping[float, int]) -> float:
    if slower_than is None:
        enough = _SLOW_QUANTILE * stable[math.inf]
        return next((edge for edge in edges if stable[edge] >= enough), edges[-1])
    return next((edge for edge in edges if edge >= slower_than.total_seconds()), edges[-1])


def _at_most(counters: Counters, edge: float) -> int:
    return counters.durations.get(edge, 0)
