"""What judges a new revision (`strategy.canary.analysis`, `strategy.blueGreen.analysis`) as frozen values."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any

from model_operator.api.times import parse_duration
from model_operator.errors import InvalidSpec

Body = Mapping[str, Any]

ERRORS, LATENCY, SHIFT, LOG_LOSS = "errors", "latency", "prediction-shift", "log-loss"
SHADOW_AGREEMENT, SHADOW_DISTANCE = "shadow-agreement", "shadow-distance"
#: What feedback tells of each answer: right or wrong, converted or not. More is better.
SHARES = ("accuracy", "precision", "recall", "f1", "conversion")
_COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_CONDITION = re.compile(r"result\s*(<=|>=|==|!=|<|>)\s*(-?[0-9]+(?:\.[0-9]+)?(?:[eE]-?[0-9]+)?)")
#: Metrics that this operator measures by itself.
BUILT_IN = (ERRORS, LATENCY, SHIFT, LOG_LOSS, *SHARES, SHADOW_AGREEMENT, SHADOW_DISTANCE)
#: How much worse than stable a metric of quality may be, where the spec does not say it.
_FAIL_DROP, _PASS_DROP = 0.01, 0.05


class Kind(StrEnum):
    """How a metric is judged: each kind has a class of its own (`policy.analysis.registry`)."""

    RATE = "rate"  # the rate of bad requests, compared with stable's
    QUALITY = "quality"  # a mean over labelled answers, compared with stable's
    SHIFT = "shift"  # the distance of two distributions
    MIRRORED = "mirrored"  # what both answered to the same requests
    GUARD = "guard"  # a value from a metric provider, with bounds
    COMPARISON = "comparison"  # which of two is better, in an A/B test


class OnProviderError(StrEnum):
    """What happens when a provider of metrics fails."""

    HOLD = "Hold"
    ABORT = "Abort"


class OnInconclusive(StrEnum):
    """What happens when an analysis step's time is over without a verdict."""

    PAUSE = "Pause"
    PROMOTE = "Promote"
    ABORT = "Abort"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a guard's value comes from: a PromQL `query`, or a web hook's answer (JSON) at `json_path`."""

    url: str
    query: str | None = None
    json_path: str = "$.value"
    timeout: timedelta = timedelta(seconds=10)
    secret_name: str | None = None

    @property
    def provider(self) -> str:
        """The provider that has the value, as the spec names it."""
        return "web" if self.query is None else "prometheus"

    def rendered(self, render: Callable[[str], str]) -> Source:
        """Return the source with the templates in its texts replaced by `render`."""
        return replace(self, url=render(self.url), query=None if self.query is None else render(self.query))


@dataclass(frozen=True, slots=True, kw_only=True)
class DatadogSource:
    """A Datadog `query` over the last `interval`; its last point is the value."""

    query: str
    secret_name: str
    site: str = "datadoghq.com"
    interval: timedelta = timedelta(minutes=5)
    timeout: timedelta = timedelta(seconds=10)

    @property
    def provider(self) -> str:
        """The provider that has the value, as the spec names it."""
        return "datadog"

    def rendered(self, render: Callable[[str], str]) -> DatadogSource:
        """Return the source with the templates in its texts replaced by `render`."""
        return replace(self, query=render(self.query))


MetricSource = Source | DatadogSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A value with bounds: outside of them in more than `limit` intervals, the canary has failed."""

    source: MetricSource
    minimum: float | None = None
    maximum: float | None = None
    condition: str | None = None
    limit: int = 0

    def is_bad(self, value: float) -> bool:
        """Whether a value is out of bounds.

        Raises:
            InvalidSpec: the condition is not understood.
        """
        too_low = self.minimum is not None and value < self.minimum
        too_high = self.maximum is not None and value > self.maximum
        return too_low or too_high or (self.condition is not None and _holds(self.condition, value))


class Method(StrEnum):
    """When an A/B test is looked at."""

    Z_TEST = "zTest"  # once, when both revisions have the planned sample
    SEQUENTIAL = "sequential"  # as often as one likes, from the planned sample on


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What an A/B test asks: which revision has the larger share of users who did what was hoped for.

    No verdict before either revision has `sample` answers, and before the split of users is found to be `weight`
    percent. `alpha` is the chance to name a winner where there is none. Answers come from feedback, or `source` counts
    those that are right and `sample_query` all of them, both since the test began.
    """

    sample: int
    weight: int
    alpha: float = 0.05
    method: Method = Method.SEQUENTIAL
    source: Source | None = None
    sample_query: str = ""


@dataclass(frozen=True, kw_only=True)  # without slots, which `cached_property` needs
class Metric:
    """One metric: what is bad in the canary's answers, and when there is too much of it.

    A request is bad when it is answered with 5xx (`errors`), or when it takes longer than `slower_than` (`latency`;
    None stands for stable's 99th percentile). `fail_ratio` is the multiple of stable's bad rate that is tolerated;
    the metric passes when the canary is shown to be below `pass_ratio` times stable's rate, or below `pass_rate`.

    A metric of quality fails when it is shown to be worse than stable's by more than `fail_drop`, and passes when it
    is shown to be worse by less than `pass_drop`. `minimum` and `maximum` bound the canary's own value.

    `shadow-agreement` bounds the share of requests to which both answer the same by `minimum` (numbers within
    `tolerance`), `shadow-distance` the mean distance of their numbers by `maximum` (`relative` to the larger number).

    None switches a test off. A metric with a `guard` is a value from elsewhere with bounds instead, one with a
    `comparison` an A/B test.
    """

    name: str
    slower_than: timedelta | None = None
    fail_ratio: float | None = None
    pass_ratio: float | None = None
    pass_rate: float | None = None
    fail_drop: float | None = None
    pass_drop: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    tolerance: float = 0.0
    relative: bool = False
    guard: Guard | None = None
    comparison: Comparison | None = None

    @cached_property
    def kind(self) -> Kind:
        """How the metric is judged."""
        if self.comparison is not None:
            return Kind.COMPARISON
        if self.guard is not None:
            return Kind.GUARD
        if self.name == SHIFT:
            return Kind.SHIFT
        if self.name in (SHADOW_AGREEMENT, SHADOW_DISTANCE):
            return Kind.MIRRORED
        return Kind.RATE if self.name in (ERRORS, LATENCY) else Kind.QUALITY


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
    on_provider_error: OnProviderError = OnProviderError.HOLD
    provider_timeout: timedelta = timedelta(minutes=10)


def parse_analysis(raw: Body | None) -> AnalysisSpec:
    """Give types to an `analysis` block, as the API server has validated and defaulted it.

    Raises:
        InvalidSpec: a metric's name is not known.
    """
    if raw is None:
        return AnalysisSpec()
    return AnalysisSpec(
        metrics=tuple(_metric(metric) for metric in raw["metrics"]),
        interval=parse_duration(raw.get("interval", "15s")),
        warmup=parse_duration(raw.get("warmup", "30s")),
        alpha=raw.get("alpha", 0.05),
        on_inconclusive=OnInconclusive(raw.get("onInconclusive", "Pause")),
        on_provider_error=OnProviderError(raw.get("onProviderError", "Hold")),
        provider_timeout=parse_duration(raw.get("providerTimeout", "10m")),
    )


def parse_comparison(raw: Body) -> AnalysisSpec:
    """Give types to what judges an A/B test (`strategy.abTest`): its comparison, and errors beside it."""
    prometheus = raw.get("prometheus")
    comparison = Comparison(
        sample=raw["minimumSampleSize"],
        weight=raw.get("weight", 50),
        alpha=raw.get("alpha", 0.05),
        method=Method(raw.get("method", "sequential")),
        source=None if prometheus is None else _prometheus(prometheus),
        sample_query="" if prometheus is None else prometheus["sampleQuery"],
    )
    return AnalysisSpec(
        metrics=(Metric(name=ERRORS, fail_ratio=1.25), Metric(name=raw["metric"], comparison=comparison)),
        interval=timedelta(seconds=15),
        on_inconclusive=OnInconclusive(raw.get("onInconclusive", "Pause")),
    )


def _guard(provider: str, raw: Body) -> Guard:
    return Guard(
        source=_SOURCES[provider](raw[provider]),
        minimum=raw.get("min"),
        maximum=raw.get("max"),
        condition=raw.get("failureCondition"),
        limit=raw.get("failureLimit", 0),
    )


def _prometheus(raw: Body) -> Source:
    return Source(
        url=raw["address"],
        query=raw["query"],
        timeout=parse_duration(raw.get("timeout", "10s")),
        secret_name=raw.get("secretName"),
    )


def _web(raw: Body) -> Source:
    return Source(
        url=raw["url"],
        json_path=raw.get("jsonPath", "$.value"),
        timeout=parse_duration(raw.get("timeout", "10s")),
        secret_name=raw.get("secretName"),
    )


def _datadog(raw: Body) -> DatadogSource:
    return DatadogSource(
        query=raw["query"],
        secret_name=raw["secretName"],
        site=raw.get("site", "datadoghq.com"),
        interval=parse_duration(raw.get("interval", "5m")),
        timeout=parse_duration(raw.get("timeout", "10s")),
    )


#: How the source of each provider is read; a provider that is not here is none.
_SOURCES: Mapping[str, Callable[[Body], MetricSource]] = {"prometheus": _prometheus, "web": _web, "datadog": _datadog}
PROVIDERS = tuple(_SOURCES)


def _holds(condition: str, value: float) -> bool:
    found = _CONDITION.fullmatch(condition.strip())
    if found is None:
        raise InvalidSpec(f"failureCondition {condition!r} is not understood; write for example result > 0.98")
    return bool(_COMPARE[found[1]](value, float(found[2])))


def _metric(raw: Body) -> Metric:
    name, fails, passes, slower = raw["name"], raw.get("fail"), raw.get("pass"), raw.get("slowerThan")
    provider = next((provider for provider in PROVIDERS if provider in raw), None)
    if provider is not None:
        return Metric(name=name, guard=_guard(provider, raw))
    if name not in BUILT_IN:
        known = ", ".join(BUILT_IN)
        raise InvalidSpec(
            f"metric {name!r} is not known; built in are {known}; any other needs {' or '.join(PROVIDERS)}"
        )
    bounded = Metric(name=name, minimum=raw.get("min"), maximum=raw.get("max"))
    if bounded.kind is Kind.RATE:
        return replace(
            bounded,
            slower_than=None if slower is None else parse_duration(slower),
            fail_ratio=None if fails is None else fails.get("ratioMargin", 1.25),
            pass_ratio=None if passes is None else passes.get("ratioMargin", 2.0),
            pass_rate=None if passes is None else passes.get("orMax"),
        )
    if bounded.kind is Kind.QUALITY:
        return replace(
            bounded,
            fail_drop=None if fails is None else fails.get("maxDropFromStable", _FAIL_DROP),
            pass_drop=None if passes is None else passes.get("maxDropFromStable", _PASS_DROP),
        )
    return replace(bounded, tolerance=raw.get("tolerance", 0.0), relative=raw.get("distance") == "Relative")
