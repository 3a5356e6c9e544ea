"""Each metric of an analysis: its verdict, the numbers of both revisions, and how far the evidence has grown. PURE."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modeldeploy.evidence import needs_of, values_of

Metric = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One metric.

    `share` is how far the evidence is from 1 to what it decides at, on a logarithmic scale, from 0 to 1; None for a
    metric without a test. `needs` says about how much more is needed for a verdict.
    """

    name: str
    verdict: str
    canary: str
    stable: str
    bounds: str
    share: float | None
    level: str
    needs: str
    problem: str


def evidence_of(metrics: tuple[Metric, ...]) -> list[Evidence]:
    """Return the metrics in the order of the spec."""
    return [_evidence(metric) for metric in metrics]


def _evidence(metric: Metric) -> Evidence:
    value, decides = metric.get("evidence"), metric.get("failAt")
    is_tested = value is not None and decides is not None and decides > 1
    share = min(max(math.log(max(value or 1, 1)) / math.log(decides), 0.0), 1.0) if is_tested and decides else None
    name = str(metric["name"])
    if "threshold" in metric:
        name = f"{name} above {metric['threshold'] * 1000:g} ms"
    bounds = [f"{word} {metric[word]:g}" for word in ("min", "max") if word in metric]
    if "looks" in metric:
        bounds.append(f"out of bounds {metric['failures']} of {metric['looks']} times")
    return Evidence(
        name=name,
        verdict=str(metric.get("verdict", "")),
        canary=_side(metric, "canary"),
        stable=_side(metric, "stable"),
        bounds=", ".join(bounds),
        share=share,
        level=f"{value:.3g} of {decides:g}" if is_tested else "",
        needs="; ".join(needs_of(metric)),
        problem=str(metric.get("problem", "")),
    )


def _side(metric: Metric, side: str) -> str:
    """Return the numbers of one revision in a few words."""
    if "requests" in metric and "bad" in metric:
        total, bad = metric["requests"][side], metric["bad"][side]
        return f"{bad} of {total} ({bad / total:.2%})" if total else "no requests"
    value = values_of(metric).get(side)
    counted = [f"{metric[unit][side]} {unit}" for unit in ("labels", "answers", "users") if unit in metric]
    shown = [] if value is None else [f"{value:.4g}"]
    return ", ".join(shown + counted)
