"""How the evidence grew: a bounded record of one rollout in `status.analysis.trail`, for reports. Pure.

A point is written when a weight changed or an interval was closed, not at every look. When there are too many,
every second one is forgotten: the whole rollout stays in sight, only coarser.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from model_operator.api.times import format_time

Body = Mapping[str, Any]

#: Points of one rollout; with four metrics they take about ten kilobytes of status.
LONGEST = 60


def lengthened(trail: Sequence[Body], *, weight: int, metrics: Sequence[Body], now: datetime) -> Sequence[Body]:
    """Return the trail with what is known now, or as it is when it says so already.

    Args:
        weight: percent of the traffic that the canary was given.
        metrics: the entries of `status.analysis.metrics`.
    """
    point = {"weight": weight, "metrics": {metric["name"]: _numbers(metric) for metric in metrics}}
    if trail and {name: trail[-1][name] for name in point} == point:
        return trail
    longer = [*trail, {"at": format_time(now), **point}]
    return longer if len(longer) <= LONGEST else _thinned(longer)


def _numbers(metric: Body) -> Body:
    """Return what a metric's entry counts or measures, without how."""
    numbers: dict[str, Any] = {}
    if "requests" in metric and "bad" in metric:
        requests, bad = metric["requests"], metric["bad"]
        numbers["counts"] = [requests["canary"], bad["canary"], requests["stable"], bad["stable"]]
    for name in ("evidence", "value"):
        if metric.get(name) is not None:
            numbers[name] = metric[name]
    return numbers


def _thinned(trail: Sequence[Body]) -> Sequence[Body]:
    """Return every second point, and the last; of few weights each one's first as well."""
    last = len(trail) - 1
    firsts = {0, *(i for i in range(1, len(trail)) if trail[i]["weight"] != trail[i - 1]["weight"])}
    kept = firsts if len(firsts) < LONGEST // 2 else {0}
    return [point for i, point in enumerate(trail) if i % 2 == 0 or i == last or i in kept]
