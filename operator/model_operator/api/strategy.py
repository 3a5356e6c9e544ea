"""Strategies of a rollout (`spec.strategy`) as frozen values."""

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
    """Identification of a returning user in an A/B test: a cookie, or a header that clients send back.

    `name` is empty for the default, the cookie `NAME-variant`; a cookie lives for `lifetime`.
    """

    kind: Literal["cookie", "header"] = "cookie"
    name: str = ""
    lifetime: timedelta = timedelta(days=7)

    @property
    def response_header(self) -> str:
        """Name of the response header that carries the revision of the user."""
        return "Set-Cookie" if self.kind == "cookie" else self.name


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
    """`strategy.blueGreen` on the wire."""

    analysis: AnalysisFields | None = None

    def value(self) -> BlueGreen:
        """Return it as a value."""
        return BlueGreen(**_shared(self, _BlueGreen), analysis=self.analysis.value() if self.analysis else None)


class CanaryFields(_Canary, frozen=True, kw_only=True):
    """`strategy.canary` on the wire."""

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
    """`abTest.stickiness` on the wire: exactly one field is set."""

    header: str | None = None
    cookie: str | None = None

    def value(self, lifetime: timedelta) -> Stickiness:
        """Return it as a value; `lifetime` is that of a cookie."""
        kind: Literal["cookie", "header"] = "header" if self.header else "cookie"
        return Stickiness(kind=kind, name=self.header or self.cookie or "", lifetime=lifetime)


class AbTestFields(Value, frozen=True, kw_only=True):
    """`strategy.abTest` on the wire."""

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
        """Return the test as a canary: its two steps, its metrics with the comparison, and the stickiness.

        Raises:
            InvalidSpec: there is no router, or a filter of the route changes the header that identifies users.
        """
        path = "spec.strategy.abTest.trafficRouting"
        routing, stickiness = self.traffic_routing.router(path), self.stickiness.value(self.max_duration)
        _check_filters(routing, stickiness, path)
        return Canary(
            steps=(SetWeight(self.weight), Compare(self.max_duration)),
            analysis=self._analysis(),
            routing=routing,
            propagation=self.traffic_routing.propagation,
            max_pause=self.max_pause,
            stickiness=stickiness,
        )

    def _analysis(self) -> AnalysisSpec:
        """Return the analysis of the test: its comparison, and the rates of errors and refusals."""
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
    """`spec.strategy` on the wire: exactly one field is set."""

    rolling_update: RollingUpdate | None = None
    canary: CanaryFields | None = None
    blue_green: BlueGreenFields | None = None
    ab_test: AbTestFields | None = None


def parse_strategy(raw: Body) -> Strategy:
    """Convert `spec.strategy` to a value; equal ones share one value.

    Raises:
        InvalidSpec: it is not exactly one of the strategies, or a field of it is invalid.
    """
    return _read(orjson.dumps(raw))


@lru_cache(maxsize=256)
def _read(text: bytes) -> Strategy:
    raw = orjson.loads(text)
    fields = read(raw, StrategyFields, "spec.strategy")
    given = [one for one in msgspec.structs.astuple(fields) if one is not None]
    if len(given) != 1:
        kinds, found = ", ".join(StrategyFields.__struct_encode_fields__), ", ".join(sorted(raw)) or "none"
        raise InvalidSpec(f"spec.strategy: found {found}; write exactly one of {kinds}")
    (strategy,) = given
    return strategy if isinstance(strategy, RollingUpdate) else strategy.value()


def _check_filters(routing: Routing, stickiness: Stickiness, path: str) -> None:
    """Refuse filters of the user that change the response header that identifies the users of an A/B test.

    Several cookies may be set; of another header one value counts.
    """
    is_cookie = stickiness.kind == "cookie"
    for place, verb, name in routing.response_header_changes():
        if name.lower() == stickiness.response_header.lower() and not (is_cookie and verb == "add"):
            advice = "write add, which keeps this cookie" if is_cookie else "use another name for one of the two"
            raise InvalidSpec(
                f"{path}.{place}: must not {verb} {name}, in which the A/B test writes the {stickiness.kind} that"
                f" identifies its users; {advice}"
            )


def _shared(fields: Value, type_: type[Value]) -> dict[str, Any]:
    """Return the fields that the value has in common with the form on the wire."""
    return {name: getattr(fields, name) for name in type_.__struct_fields__}
