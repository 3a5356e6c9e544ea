"""What judges a new revision (`strategy.canary.analysis`, `strategy.blueGreen.analysis`) as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from model_operator.api.times import parse_duration

Body = Mapping[str, Any]

ERRORS, LATENCY = "errors", "latency"
#: Metrics that this operator measures; others are accepted and named in the condition SpecSupported.
MEASURED = (ERRORS, LATENCY)


class OnInconclusive(StrEnum):
    """What happens when an analysis step's time is over without a verdict."""

    PAUSE = "Pause"
    PROMOTE = "Promote"
    ABORT = "Abort"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric: a rate of bad requests, compared with stable's.

    A request is bad when it is answered with 5xx (`errors`), or when it takes longer than `slower_than` (`latency`;
    None stands for stable's 99th percentile). `fail_ratio` is the multiple of stable's bad rate that is tolerated;
    the metric passes when the canary is shown to be below `pass_ratio` times stable's rate, or below `pass_rate`.
    None switches a test off.
    """

    name: str
    slower_than: timedelta | None = None
    fail_ratio: float | None = None
    pass_ratio: float | None = None
    pass_rate: float | None = None

    @property
    def can_pass(self) -> bool:
        """Whether promotion waits for this metric."""
        return self.pass_ratio is not None or self.pass_rate is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisSpec:
    """The metrics, and how their evidence is taken; without one in the spec, errors are judged alone.

    `alpha` is the chance that a healthy canary is ever failed, shared out over the metrics.
    """

    metrics: tuple[Metric, ...] = (Metric(name=ERRORS, fail_ratio=1.25, pass_ratio=2.0, pass_rate=0.01),)
    interval: timedelta = timedelta(seconds=5)
    warmup: timedelta = timedelta(0)
    alpha: float = 0.05
    on_inconclusive: OnInconclusive = OnInconclusive.PAUSE

    @property
    def fail_at(self) -> float:
        """The evidence at which one metric decides: 1 / (alpha / number of metrics)."""
        return len(self.metrics) / self.alpha


def parse_analysis(raw: Body | None) -> AnalysisSpec:
    """Give types to an `analysis` block, as the API server has validated and defaulted it."""
    if raw is None:
        return AnalysisSpec()
    metrics = tuple(_metric(metric) for metric in raw["metrics"] if metric["name"] in MEASURED)
    return AnalysisSpec(
        metrics=metrics or AnalysisSpec().metrics,
        interval=parse_duration(raw.get("interval", "15s")),
        warmup=parse_duration(raw.get("warmup", "30s")),
        alpha=raw.get("alpha", 0.05),
        on_inconclusive=OnInconclusive(raw.get("onInconclusive", "Pause")),
    )


def not_measured(raw: Body | None) -> tuple[str, ...]:
    """Return the fields of an `analysis` block that are accepted but not acted upon yet, by dotted path."""
    if raw is None:
        return ()
    names = [f"metrics.{metric['name']}" for metric in raw["metrics"] if metric["name"] not in MEASURED]
    guards = [
        f"metrics.{metric['name']}.{field}"
        for metric in raw["metrics"]
        for field in ("min", "max")
        if metric["name"] in MEASURED and field in metric
    ]
    return (*names, *guards)


def _metric(raw: Body) -> Metric:
    passes, slower = raw.get("pass"), raw.get("slowerThan")
    return Metric(
        name=raw["name"],
        slower_than=None if slower is None else parse_duration(slower),
        fail_ratio=raw["fail"].get("ratioMargin", 1.25) if "fail" in raw else None,
        pass_ratio=None if passes is None else passes.get("ratioMargin", 2.0),
        pass_rate=None if passes is None else passes.get("orMax"),
    )
