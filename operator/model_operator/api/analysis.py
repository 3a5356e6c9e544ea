"""The analysis of a new revision (`strategy.canary.analysis`, `strategy.blueGreen.analysis`) as frozen values."""

import operator
import re
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import Literal

from msgspec import field

from model_operator.api.json import Body
from model_operator.api.values import Duration, Number, Value, read, replace, repr_without
from model_operator.errors import InvalidSpec

ERRORS, REFUSALS, LATENCY, SHIFT, LOG_LOSS = "errors", "refusals", "latency", "prediction-shift", "log-loss"
SHADOW_AGREEMENT, SHADOW_DISTANCE = "shadow-agreement", "shadow-distance"
#: Feedback metrics that are shares of successful answers; more is better.
SHARES = ("accuracy", "precision", "recall", "f1", "conversion")
#: Largest differences between two groups; less is better.
SELECTION_RATE, EQUAL_OPPORTUNITY = "selection-rate-difference", "equal-opportunity-difference"
GROUP_DIFFERENCES = (SELECTION_RATE, EQUAL_OPPORTUNITY, "equalized-odds-difference")
GROUP_ACCURACY = "group-accuracy"
#: Shares of requests that look unlike the training data (`spec.monitoring.dataQuality`); less is better.
DATA_QUALITY, OUTLIERS = "data-quality", "outliers"
OF_INPUTS = (DATA_QUALITY, OUTLIERS)
_COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_CONDITION = re.compile(r"result\s*(<=|>=|==|!=|<|>)\s*(-?[0-9]+(?:\.[0-9]+)?(?:[eE]-?[0-9]+)?)")
#: Metrics that the operator measures itself.
BUILT_IN = (ERRORS, REFUSALS, LATENCY, SHIFT, LOG_LOSS, *SHARES, SHADOW_AGREEMENT, SHADOW_DISTANCE)
#: Metrics of the groups of a slice (`spec.monitoring.slices`).
OF_GROUPS = (GROUP_ACCURACY, *GROUP_DIFFERENCES)
#: Default tolerances by which a feedback metric may be worse than that of stable, and one of inputs.
_FAIL_DROP, _PASS_DROP, _INPUT_DROP = 0.01, 0.05, 0.05


class Kind(StrEnum):
    """Kind of a metric; `policy.analysis.registry` has one class for each kind."""

    RATE = "rate"  # the rate of bad requests, compared with stable's
    QUALITY = "quality"  # a mean over labelled answers, compared with stable's
    SHIFT = "shift"  # the distance of two distributions
    GROUPS = "groups"  # quality by the groups of a slice
    INPUTS = "inputs"  # requests unlike the training data, compared with stable's
    MIRRORED = "mirrored"  # what both answered to the same requests
    GUARD = "guard"  # a value from a metric provider, with bounds
    COMPARISON = "comparison"  # which of two is better, in an A/B test


class OnProviderError(StrEnum):
    """Action when a metric provider fails."""

    HOLD = "Hold"
    ABORT = "Abort"


class OnInconclusive(StrEnum):
    """Action when an analysis step reaches its maximum duration without a verdict."""

    PAUSE = "Pause"
    PROMOTE = "Promote"
    ABORT = "Abort"


class Source(Value, frozen=True, kw_only=True):
    """Source of the value of a guard: a PromQL `query`, or the JSON response of a web service at `json_path`."""

    url: str
    query: str | None = None
    json_path: str = "$.value"
    timeout: timedelta = timedelta(seconds=10)
    secret_name: str | None = None

    @property
    def provider(self) -> str:
        """Name of the metric provider in the spec."""
        return "web" if self.query is None else "prometheus"

    def rendered(self, render: Callable[[str], str]) -> "Source":
        """Return the source with the templates in its texts replaced by `render`."""
        return replace(self, url=render(self.url), query=None if self.query is None else render(self.query))


class DatadogSource(Value, frozen=True, kw_only=True):
    """A Datadog `query` over the last `interval`; its last point is the value."""

    query: str
    secret_name: str
    site: str = "datadoghq.com"
    interval: timedelta = timedelta(minutes=5)
    timeout: timedelta = timedelta(seconds=10)

    @property
    def provider(self) -> str:
        """Name of the metric provider in the spec."""
        return "datadog"

    def rendered(self, render: Callable[[str], str]) -> "DatadogSource":
        """Return the source with the templates in its texts replaced by `render`."""
        return replace(self, query=render(self.query))


MetricSource = Source | DatadogSource
#: The metric providers, as the spec names them.
PROVIDERS = ("prometheus", "web", "datadog")


class Guard(Value, frozen=True, kw_only=True):
    """A value with bounds. The canary fails when the value is out of bounds in more than `limit` intervals."""

    source: MetricSource
    minimum: float | None = None
    maximum: float | None = None
    condition: str | None = None
    limit: int = 0

    def is_bad(self, value: float) -> bool:
        """Whether a value is out of bounds.

        Raises:
            InvalidSpec: the condition is invalid.
        """
        too_low = self.minimum is not None and value < self.minimum
        too_high = self.maximum is not None and value > self.maximum
        return too_low or too_high or (self.condition is not None and _holds(self.condition, value))


class Method(StrEnum):
    """Method of an A/B test."""

    Z_TEST = "zTest"  # once, when both revisions have the planned sample
    SEQUENTIAL = "sequential"  # at any time, from the planned sample on


class Comparison(Value, frozen=True, kw_only=True):
    """The comparison of an A/B test: which revision has the larger share of successful answers.

    There is no verdict before each revision has `sample` answers and the observed split of users agrees with `weight`
    percent. `alpha` is the probability of naming a winner where there is none. Answers come from feedback, or `source`
    counts the successes and `sample_query` all answers, both since the test began.
    """

    sample: int
    weight: int
    alpha: float = 0.05
    method: Method = Method.SEQUENTIAL
    source: Source | None = None
    sample_query: str = ""


class Metric(Value, frozen=True, kw_only=True, dict=True):  # a dict caches the hash that every pass needs
    """One metric of the analysis and its limits.

    A request is bad when the response is a 5xx (`errors`), when the model, its schema or a limit of the server refuses
    it (`refusals`), or when it takes longer than `slower_than` (`latency`; None stands for the 99th percentile of
    stable). `fail_ratio` is the tolerated multiple of stable's rate of bad requests. The metric passes when the canary
    is proven to be below `pass_ratio` times that rate, or below `pass_rate`.

    A feedback metric fails when it is proven to be worse than that of stable by more than `fail_drop`, and passes when
    it is proven to be worse by less than `pass_drop`. `minimum` and `maximum` bound the value of the canary.

    `shadow-agreement` bounds the share of requests with equal answers by `minimum` (numbers within `tolerance`),
    `shadow-distance` the mean distance of the numbers by `maximum` (`relative` to the larger number).

    `data-quality` and `outliers` compare the share of good requests by `fail_drop` and `pass_drop`.

    `group-accuracy` and the differences between groups judge the groups of `slice`, empty for the only one.

    None disables a test. A metric with a `guard` checks a value of a metric provider against bounds, one with a
    `comparison` is an A/B test.
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
    slice: str = ""

    def __repr__(self) -> str:
        """Return the text that the digest of the rule is made of (`policy.analysis.state.rule_of`)."""
        return repr_without(self, "slice")

    @cached_property
    def kind(self) -> Kind:
        """Kind of the metric."""
        if self.comparison is not None:
            return Kind.COMPARISON
        if self.guard is not None:
            return Kind.GUARD
        if self.name == SHIFT:
            return Kind.SHIFT
        if self.name in OF_GROUPS:
            return Kind.GROUPS
        if self.name in OF_INPUTS:
            return Kind.INPUTS
        if self.name in (SHADOW_AGREEMENT, SHADOW_DISTANCE):
            return Kind.MIRRORED
        return Kind.RATE if self.name in (ERRORS, REFUSALS, LATENCY) else Kind.QUALITY


class Judgement(Value, frozen=True, kw_only=True):
    """Fields that an analysis has, with or without an `analysis` block in the spec.

    `alpha` is the probability that a healthy canary fails, divided among the metrics.
    """

    alpha: Number = 0.05
    on_inconclusive: OnInconclusive = OnInconclusive.PAUSE
    on_provider_error: OnProviderError = OnProviderError.HOLD
    provider_timeout: Duration = Duration(minutes=10)


def with_refusals(metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
    """Return the metrics of an analysis, with `refusals` beside `errors` unless a metric has that name.

    A new revision may refuse with 422 what stable answers with 200, which is no error. Refusals fail at the same
    multiple of stable's rate as errors do. They have no limit of their own and need no proof: clients send invalid
    requests to any model.
    """
    names = {metric.name for metric in metrics}
    errors = next((metric for metric in metrics if metric.name == ERRORS and metric.kind is Kind.RATE), None)
    if REFUSALS in names or errors is None or errors.fail_ratio is None:
        return metrics
    after = metrics.index(errors) + 1
    return (*metrics[:after], Metric(name=REFUSALS, fail_ratio=errors.fail_ratio), *metrics[after:])


class AnalysisSpec(Judgement, frozen=True, kw_only=True):
    """The metrics and the settings of their sampling; the default is an analysis of errors and refusals."""

    metrics: tuple[Metric, ...] = with_refusals((Metric(name=ERRORS, fail_ratio=1.25, pass_ratio=2.0, pass_rate=0.01),))
    interval: timedelta = timedelta(seconds=5)
    warmup: timedelta = timedelta(0)


class FailFields(Value, frozen=True, kw_only=True):
    """Limits beyond which a metric fails (`fail`)."""

    ratio_margin: Number = 1.25
    max_drop_from_stable: Number | None = None


class PassFields(Value, frozen=True, kw_only=True):
    """Limits within which a metric passes (`pass`)."""

    ratio_margin: Number = 2
    max_drop_from_stable: Number | None = None
    or_max: Number | None = None


class PrometheusFields(Value, frozen=True, kw_only=True):
    """A value from a Prometheus query."""

    address: str
    query: str
    secret_name: str | None = None
    timeout: Duration = Duration(seconds=10)

    @property
    def source(self) -> Source:
        """Source of the value."""
        return Source(url=self.address, query=self.query, timeout=self.timeout, secret_name=self.secret_name)


class SampledPrometheusFields(PrometheusFields, frozen=True, kw_only=True):
    """Counts of an A/B test from Prometheus."""

    sample_query: str


class WebFields(Value, frozen=True, kw_only=True):
    """A value from a web service."""

    url: str
    json_path: str = "$.value"
    secret_name: str | None = None
    timeout: Duration = Duration(seconds=10)

    @property
    def source(self) -> Source:
        """Source of the value."""
        return Source(url=self.url, json_path=self.json_path, timeout=self.timeout, secret_name=self.secret_name)


class DatadogFields(Value, frozen=True, kw_only=True):
    """A value from a Datadog query."""

    query: str
    secret_name: str
    site: str = "datadoghq.com"
    interval: Duration = Duration(minutes=5)
    timeout: Duration = Duration(seconds=10)

    @property
    def source(self) -> DatadogSource:
        """Source of the value."""
        return DatadogSource(
            query=self.query, secret_name=self.secret_name, site=self.site, interval=self.interval, timeout=self.timeout
        )


class MetricFields(Value, frozen=True, kw_only=True):
    """One entry of `analysis.metrics` on the wire; the name decides which fields apply."""

    name: str
    slower_than: Duration | None = None
    fail: FailFields | None = None
    passes: PassFields | None = field(name="pass", default=None)
    tolerance: Number = 0.0
    distance: Literal["Absolute", "Relative"] = "Absolute"
    minimum: Number | None = field(name="min", default=None)
    maximum: Number | None = field(name="max", default=None)
    failure_condition: str | None = None
    failure_limit: int = 0
    prometheus: PrometheusFields | None = None
    web: WebFields | None = None
    datadog: DatadogFields | None = None
    slice: str = ""

    def value(self) -> Metric:
        """Return the metric as a value.

        Raises:
            InvalidSpec: the name of the metric is unknown.
        """
        given = self.prometheus or self.web or self.datadog
        if given is not None:
            return Metric(name=self.name, guard=self._guard(given.source))
        if self.name not in (*BUILT_IN, *OF_GROUPS, *OF_INPUTS):
            names = ", ".join((*BUILT_IN, *OF_GROUPS, *OF_INPUTS))
            needs = f"any other needs {' or '.join(PROVIDERS)}"
            raise InvalidSpec(f"metric {self.name!r} is unknown; the built-in metrics are {names}; {needs}")
        bounded = Metric(name=self.name, minimum=self.minimum, maximum=self.maximum)
        fails, passes = self.fail, self.passes
        if bounded.kind is Kind.RATE:
            return replace(
                bounded,
                slower_than=self.slower_than,
                fail_ratio=fails.ratio_margin if fails else None,
                pass_ratio=passes.ratio_margin if passes else None,
                pass_rate=passes.or_max if passes else None,
            )
        if bounded.kind is Kind.QUALITY:
            return replace(
                bounded,
                fail_drop=_or(fails.max_drop_from_stable, _FAIL_DROP) if fails else None,
                pass_drop=_or(passes.max_drop_from_stable, _PASS_DROP) if passes else None,
            )
        if bounded.kind is Kind.INPUTS:
            return replace(
                bounded,
                fail_drop=_or(fails.max_drop_from_stable, _INPUT_DROP) if fails else None,
                pass_drop=_or(passes.max_drop_from_stable, _INPUT_DROP) if passes else None,
            )
        if bounded.kind is Kind.GROUPS:
            drop = _or(fails.max_drop_from_stable, _FAIL_DROP) if fails else None
            return replace(bounded, fail_drop=drop, slice=self.slice)
        return replace(bounded, tolerance=self.tolerance, relative=self.distance == "Relative")

    def _guard(self, source: MetricSource) -> Guard:
        return Guard(
            source=source,
            minimum=self.minimum,
            maximum=self.maximum,
            condition=self.failure_condition,
            limit=self.failure_limit,
        )


class AnalysisFields(Judgement, frozen=True, kw_only=True):
    """An `analysis` block on the wire."""

    metrics: tuple[MetricFields, ...]
    interval: Duration = Duration(seconds=15)
    warmup: Duration = Duration(seconds=30)

    def value(self) -> AnalysisSpec:
        """Return the block as a value.

        Raises:
            InvalidSpec: the name of a metric is unknown.
        """
        return AnalysisSpec(
            metrics=with_refusals(tuple(metric.value() for metric in self.metrics)),
            interval=self.interval,
            warmup=self.warmup,
            alpha=self.alpha,
            on_inconclusive=self.on_inconclusive,
            on_provider_error=self.on_provider_error,
            provider_timeout=self.provider_timeout,
        )


def parse_analysis(raw: Body | None) -> AnalysisSpec:
    """Convert an `analysis` block, which the API server has validated and defaulted, to a value.

    Raises:
        InvalidSpec: the name of a metric is unknown.
    """
    return AnalysisSpec() if raw is None else read(raw, AnalysisFields, "analysis").value()


def _or(value: Number | None, default: Number) -> Number:
    return default if value is None else value


def _holds(condition: str, value: float) -> bool:
    found = _CONDITION.fullmatch(condition.strip())
    if found is None:
        raise InvalidSpec(f"failureCondition {condition!r} is invalid; write for example result > 0.98")
    return bool(_COMPARE[found[1]](value, float(found[2])))
