"""How a new revision goes live (`spec.strategy`) as frozen values."""

from datetime import timedelta
from functools import lru_cache
from typing import Any, Literal

import msgspec
import orjson
from msgspec import field

from model_operator.api.analysis import (
    ERRORS,
    AnalysisFields,
    AnalysisSpec,
    Comparison,
    Method,
    Metric,
    OnInconclusive,
    SampledPrometheusFields,
    with_refusals,
)
from model_operator.api.json import Body
from model_operator.api.routing import Routing, TrafficRoutingFields
from model_operator.api.steps import Compare, SetWeight, Step, StepFields, parse_steps
from model_operator.api.values import Duration, Number, Seconds, Value, read
from model_operator.errors import InvalidSpec


class Stickiness(Value, frozen=True, kw_only=True):
    """How a user of an A/B test is known again: by a cookie, or by a header that clients send back.

    `name` is empty for the model's own (`NAME-variant`); a cookie lives for `lifetime`.
    """

    kind: Literal["cookie", "header"] = "cookie"
    name: str = ""
    lifetime: timedelta = timedelta(days=7)


class RollingUpdate(Value, frozen=True, kw_only=True):
    """All traffic moves as soon as the new revision is ready (`strategy.rollingUpdate`)."""


class _BlueGreen(Value, frozen=True, kw_only=True):
    auto_promote: bool = True
    preview_service: bool = True
    max_pause: Duration | None = field(name="maxPauseDuration", default=None)


class BlueGreen(_BlueGreen, frozen=True, kw_only=True):
    """The new revision starts at full size beside the old one (`strategy.blueGreen`)."""

    analysis: AnalysisSpec | None = None


class _Canary(Value, frozen=True, kw_only=True):
    max_surge: int | str = 1
    max_unavailable: int | str = 0
    scale_down_delay: Seconds = field(name="scaleDownDelaySeconds", default=Seconds(seconds=30))
    abort_scale_down_delay: Seconds = field(name="abortScaleDownDelaySeconds", default=Seconds(seconds=30))
    max_pause: Duration | None = field(name="maxPauseDuration", default=None)


class Canary(_Canary, frozen=True, kw_only=True):
    """The new revision takes traffic by steps (`strategy.canary`).

    An A/B test (`strategy.abTest`) is one of two steps: a weight, and a comparison of users who each stay with the
    revision that was drawn for them (`stickiness`).
    """

    steps: tuple[Step, ...]
    analysis: AnalysisSpec = AnalysisSpec()
    routing: Routing | None = None
    propagation: timedelta = timedelta(0)
    stickiness: Stickiness | None = None


Strategy = RollingUpdate | BlueGreen | Canary


class BlueGreenFields(_BlueGreen, frozen=True, kw_only=True):
    """`strategy.blueGreen` as it is written."""

    analysis: AnalysisFields | None = None

    def value(self) -> BlueGreen:
        """Return it as a value."""
        return BlueGreen(**_shared(self, _BlueGreen), analysis=self.analysis.value() if self.analysis else None)


class CanaryFields(_Canary, frozen=True, kw_only=True):
    """`strategy.canary` as it is written."""

    steps: tuple[StepFields, ...] = tuple(StepFields(set_weight=weight) for weight in (5, 25, 50))
    analysis: AnalysisFields | None = None
    traffic_routing: TrafficRoutingFields | None = None

    def value(self) -> Canary:
        """Return it as a value."""
        routing = self.traffic_routing
        return Canary(
            **_shared(self, _Canary),
            steps=parse_steps(self.steps, "spec.strategy.canary.steps"),
            analysis=self.analysis.value() if self.analysis else AnalysisSpec(),
            routing=routing.router("spec.strategy.canary.trafficRouting") if routing else None,
            propagation=routing.propagation if routing else timedelta(0),
        )


class StickinessFields(Value, frozen=True, kw_only=True):
    """`abTest.stickiness` as it is written: one field is there."""

    header: str | None = None
    cookie: str | None = None


class AbTestFields(Value, frozen=True, kw_only=True):
    """`strategy.abTest` as it is written."""

    weight: int = 50
    metric: str
    minimum_sample_size: int
    max_duration: Duration = Duration(days=7)
    method: Method = Method.SEQUENTIAL
    alpha: Number = 0.05
    on_inconclusive: OnInconclusive = OnInconclusive.PAUSE
    max_pause: Duration | None = field(name="maxPauseDuration", default=None)
    stickiness: StickinessFields = StickinessFields()
    prometheus: SampledPrometheusFields | None = None
    traffic_routing: TrafficRoutingFields

    def value(self) -> Canary:
        """Return the test as a canary: its two steps, its metrics with the comparison, and who stays where."""
        known, longest = self.stickiness, self.max_duration
        return Canary(
            steps=(SetWeight(self.weight), Compare(longest)),
            analysis=self._analysis(),
            routing=self.traffic_routing.router("spec.strategy.abTest.trafficRouting"),
            propagation=self.traffic_routing.propagation,
            max_pause=self.max_pause,
            stickiness=Stickiness(
                kind="header" if known.header else "cookie",
                name=known.header or known.cookie or "",
                lifetime=longest,
            ),
        )

    def _analysis(self) -> AnalysisSpec:
        """Return what judges the test: its comparison, and errors and refusals beside it."""
        prometheus = self.prometheus
        comparison = Comparison(
            sample=self.minimum_sample_size,
            weight=self.weight,
            alpha=self.alpha,
            method=self.method,
            source=prometheus.source if prometheus else None,
            sample_query=prometheus.sample_query if prometheus else "",
        )
        return AnalysisSpec(
            metrics=with_refusals(
                (Metric(name=ERRORS, fail_ratio=1.25), Metric(name=self.metric, comparison=comparison))
            ),
            interval=timedelta(seconds=15),
            on_inconclusive=self.on_inconclusive,
        )


class StrategyFields(Value, frozen=True, kw_only=True):
    """`spec.strategy` as it is written: exactly one field is there."""

    rolling_update: RollingUpdate | None = None
    canary: CanaryFields | None = None
    blue_green: BlueGreenFields | None = None
    ab_test: AbTestFields | None = None


def parse_strategy(raw: Body) -> Strategy:
    """Give types to `spec.strategy`; equal ones, of which there are many, are read once and are one value.

    Raises:
        InvalidSpec: it is none that this operator knows.
    """
    return _read(orjson.dumps(raw))


@lru_cache(maxsize=256)
def _read(text: bytes) -> Strategy:
    raw = orjson.loads(text)
    fields = read(raw, StrategyFields, "spec.strategy")
    given = [one for one in msgspec.structs.astuple(fields) if one is not None]
    if len(given) != 1:
        known = ", ".join(StrategyFields.__struct_encode_fields__)
        raise InvalidSpec(f"spec.strategy: {sorted(raw)} is not understood; write exactly one of {known}")
    (strategy,) = given
    return strategy if isinstance(strategy, RollingUpdate) else strategy.value()


def _shared(fields: Value, type_: type[Value]) -> dict[str, Any]:
    """Return the fields that a value has in common with what was written."""
    return {name: getattr(fields, name) for name in type_.__struct_fields__}
