"""The numbers of one entry of `status.analysis.metrics`, in a few words. PURE."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

Body = Mapping[str, Any]

SIDES = ("canary", "stable")
#: Cells of the bar that evidence fills.
_BAR = 10
#: Fields that say how many more of something a verdict needs.
_NEEDED = {"needRequests": "requests", "needLabels": "labels", "needAnswers": "answers"}


def evidence_line(metric: Body) -> str:
    """Return what was counted or measured, and how far the evidence is on its way to what it decides at."""
    numbers = [metric["problem"]] if "problem" in metric else [*_measured(metric), *_progress(metric)]
    return "  ".join([_named(metric), metric["verdict"], *numbers])


def values_of(metric: Body) -> Mapping[str, float]:
    """Return the measured value by side; one that speaks of the canary alone, or of both, is the canary's."""
    value = metric.get("value")
    if isinstance(value, Mapping):
        return value
    values = {"canary": value, "stable": metric.get("stableValue")}
    return {side: one for side, one in values.items() if one is not None}


def _named(metric: Body) -> str:
    """Return the name, with the seconds above which a request counts as slow."""
    return f"{metric['name']} above {metric['threshold'] * 1000:g} ms" if "threshold" in metric else metric["name"]


def _measured(metric: Body) -> Iterator[str]:
    if "requests" in metric:
        counted, bad, rate = metric["requests"], metric["bad"], metric["badRate"]
        yield from (f"{side} {bad[side]} of {counted[side]} ({rate[side]:.2%})" for side in SIDES)
        return
    values = values_of(metric)
    is_compared = "stable" in values
    yield from (f"{side if is_compared else 'value'} {value:.4g}{_deviation(metric)}" for side, value in values.items())
    yield from (f"{bound} {metric[bound]:g}" for bound in ("min", "max") if bound in metric)
    for unit in ("labels", "answers", "users"):
        if unit in metric:
            yield f"{unit} {metric[unit]['canary']} and {metric[unit]['stable']}"
    if "mirrored" in metric:
        yield f"{metric['mirrored']} mirrored requests"
    if "looks" in metric:
        allowed = f" ({metric['failureLimit']} allowed)" if "failureLimit" in metric else ""
        yield f"out of bounds in {metric['failures']} of {metric['looks']} intervals{allowed}"


def _deviation(metric: Body) -> str:
    return f" ± {metric['deviation']:.2g}" if "deviation" in metric else ""


def _progress(metric: Body) -> Iterator[str]:
    if "evidence" in metric:
        e_value, decides = metric["evidence"], metric["failAt"]
        # On a logarithmic scale evidence grows steadily from 1 to what it decides at.
        share = min(max(math.log(max(e_value, 1)) / math.log(decides), 0), 1)
        filled = round(share * _BAR)
        yield f"E {e_value:.3g} of {decides:g} {'█' * filled}{'░' * (_BAR - filled)}"
    yield from (f"needs {one}" for one in needs_of(metric))


def needs_of(metric: Body) -> Iterator[str]:
    """Return about how many more of what a verdict needs, and of which group where a metric compares groups."""
    group = f" of {metric['needGroup']}" if metric.get("needGroup") else ""
    yield from (f"about {metric[name]} more {unit}{group}" for name, unit in _NEEDED.items() if name in metric)
