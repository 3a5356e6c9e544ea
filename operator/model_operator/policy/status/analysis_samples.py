"""The history of the evidence of a rollout, in `status.analysis.samples`, for reports. Pure.

A sample is added when a weight changes or an interval closes. When there are too many, every second one is
dropped, so that the history covers the whole rollout at a lower resolution.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from model_operator.api.json import Body
from model_operator.api.times import format_time

#: Maximum number of samples of one rollout; with four metrics they take about ten kilobytes of status.
MAX_SAMPLES = 60


def samples_of(analysis: Body) -> Sequence[Body]:
    """Return the samples of `status.analysis`; the first release named the field `trail`."""
    samples: Sequence[Body] = analysis.get("samples") or analysis.get("trail") or ()
    return samples


def append_sample(samples: Sequence[Body], *, weight: int, metrics: Sequence[Body], now: datetime) -> Sequence[Body]:
    """Return the samples with one more, or unchanged if it equals the last one.

    Args:
        weight: percentage of the traffic for the canary.
        metrics: the entries of `status.analysis.metrics`.
    """
    point = {"weight": weight, "metrics": {metric["name"]: _numbers(metric) for metric in metrics}}
    if samples and {name: samples[-1][name] for name in point} == point:
        return samples
    longer = [*samples, {"at": format_time(now), **point}]
    return longer if len(longer) <= MAX_SAMPLES else _downsample(longer)


def _numbers(metric: Body) -> Body:
    """Return the counts and values of a metric's entry."""
    numbers: dict[str, Any] = {}
    if "requests" in metric and "bad" in metric:
        requests, bad = metric["requests"], metric["bad"]
        numbers["counts"] = [requests["canary"], bad["canary"], requests["stable"], bad["stable"]]
    for name in ("evidence", "value"):
        if metric.get(name) is not None:
            numbers[name] = metric[name]
    return numbers


def _downsample(samples: Sequence[Body]) -> Sequence[Body]:
    """Return every second sample, the last one, and, if there are few weights, the first one of each weight."""
    last = len(samples) - 1
    firsts = {0, *(i for i in range(1, len(samples)) if samples[i]["weight"] != samples[i - 1]["weight"])}
    kept = firsts if len(firsts) < MAX_SAMPLES // 2 else {0}
    return [point for i, point in enumerate(samples) if i % 2 == 0 or i == last or i in kept]
