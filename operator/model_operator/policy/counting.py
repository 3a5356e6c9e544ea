"""From two looks at one server's counters to counts of requests and bad ones, by metric. Pure."""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from model_operator.api.analysis import ERRORS, LATENCY, AnalysisSpec
from model_operator.policy.analysis import Knowledge
from model_operator.policy.judge import Counts

#: The part of stable's requests that is slower than what counts as slow, where the spec does not say it.
_SLOW_QUANTILE = 0.99


class Counters(Protocol):
    """Counters since a server's process began (`ports.PodSample`)."""

    @property
    def requests(self) -> int:
        """Answered predictions."""

    @property
    def errors(self) -> int:
        """Those answered with 5xx."""

    @property
    def durations(self) -> Mapping[float, int]:
        """Predictions that took at most so many seconds, by the histogram's bucket edges (inf is one)."""


def increases(
    spec: AnalysisSpec, knowledge: Knowledge, before: Counters, after: Counters, *, is_canary: bool
) -> Mapping[str, Counts]:
    """Return what one server counted between two looks, for each metric that can be counted."""
    counted: dict[str, Counts] = {}
    for metric in spec.metrics:
        if metric.name == ERRORS:
            total, bad = after.requests - before.requests, after.errors - before.errors
        elif metric.name == LATENCY and LATENCY in knowledge.thresholds:
            threshold = knowledge.thresholds[LATENCY]
            total = _at_most(after, math.inf) - _at_most(before, math.inf)
            bad = total - (_at_most(after, threshold) - _at_most(before, threshold))
        else:
            continue
        total, bad = max(total, 0), max(bad, 0)
        counted[metric.name] = (
            Counts(canary=total, canary_bad=bad) if is_canary else Counts(stable=total, stable_bad=bad)
        )
    return counted


def with_thresholds(spec: AnalysisSpec, knowledge: Knowledge, stable: Mapping[float, int]) -> Knowledge:
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
