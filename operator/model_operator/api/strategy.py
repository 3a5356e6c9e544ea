"""How a new revision goes live (`spec.strategy`) as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Literal

import orjson

from model_operator.api.analysis import AnalysisSpec, parse_analysis, parse_comparison
from model_operator.api.json import Body
from model_operator.api.steps import Compare, SetWeight, Step, parse_step
from model_operator.api.times import optional_duration, parse_duration
from model_operator.errors import InvalidSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRouting:
    """An HTTPRoute of the Gateway API (`trafficRouting.gatewayAPI`)."""

    parent_refs: tuple[Body, ...]
    hostnames: tuple[str, ...] = ()
    path_prefix: str = "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stickiness:
    """How a user of an A/B test is known again: by a cookie, or by a header that clients send back.

    `name` is empty for the model's own (`NAME-variant`); a cookie lives for `lifetime`.
    """

    kind: Literal["cookie", "header"] = "cookie"
    name: str = ""
    lifetime: timedelta = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingUpdate:
    """All traffic moves as soon as the new revision is ready (`strategy.rollingUpdate`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlueGreen:
    """The new revision starts at full size beside the old one (`strategy.blueGreen`)."""

    auto_promote: bool = True
    preview_service: bool = True
    max_pause: timedelta | None = None
    analysis: AnalysisSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """The new revision takes traffic by steps (`strategy.canary`).

    An A/B test (`strategy.abTest`) is one of two steps: a weight, and a comparison of users who each stay with the
    revision that was drawn for them (`stickiness`).
    """

    steps: tuple[Step, ...]
    max_surge: int | str = 1
    max_unavailable: int | str = 0
    scale_down_delay: timedelta = timedelta(seconds=30)
    abort_scale_down_delay: timedelta = timedelta(seconds=30)
    max_pause: timedelta | None = None
    analysis: AnalysisSpec = field(default_factory=AnalysisSpec)
    gateway: GatewayRouting | None = None
    propagation: timedelta = timedelta(0)
    stickiness: Stickiness | None = None


Strategy = RollingUpdate | BlueGreen | Canary


def parse_strategy(raw: Body) -> Strategy:
    """Give types to `spec.strategy`; equal ones, of which there are many, are read once and are one value.

    Raises:
        InvalidSpec: it is none that this operator knows.
    """
    return _read(orjson.dumps(raw))


@lru_cache(maxsize=256)
def _read(text: bytes) -> Strategy:
    raw = orjson.loads(text)
    if "canary" in raw:
        return _canary(raw["canary"])
    if "blueGreen" in raw:
        green = raw["blueGreen"]
        return BlueGreen(
            auto_promote=green.get("autoPromote", True),
            preview_service=green.get("previewService", True),
            max_pause=optional_duration(green.get("maxPauseDuration")),
            analysis=parse_analysis(green["analysis"]) if "analysis" in green else None,
        )
    if "rollingUpdate" in raw:
        return RollingUpdate()
    if "abTest" in raw:
        return _ab_test(raw["abTest"])
    known = "canary, blueGreen, abTest, rollingUpdate"
    raise InvalidSpec(f"spec.strategy: {sorted(raw)} is not known; write exactly one of {known}")


def _canary(raw: Body) -> Canary:
    routing = raw.get("trafficRouting", {})
    for other in sorted(routing.keys() - {"gatewayAPI", "propagationSeconds"}):
        known = "write gatewayAPI, which Istio and Traefik implement"
        raise InvalidSpec(f"spec.strategy.canary.trafficRouting: {other!r} is not known; {known}")
    gateway = _gateway(routing.get("gatewayAPI"))
    steps = raw.get("steps", [{"setWeight": weight} for weight in (5, 25, 50)])
    return Canary(
        steps=tuple(parse_step(step, f"spec.strategy.canary.steps[{i}]") for i, step in enumerate(steps)),
        max_surge=raw.get("maxSurge", 1),
        max_unavailable=raw.get("maxUnavailable", 0),
        scale_down_delay=timedelta(seconds=raw.get("scaleDownDelaySeconds", 30)),
        abort_scale_down_delay=timedelta(seconds=raw.get("abortScaleDownDelaySeconds", 30)),
        max_pause=optional_duration(raw.get("maxPauseDuration")),
        analysis=parse_analysis(raw.get("analysis")),
        gateway=gateway,
        propagation=timedelta(seconds=routing.get("propagationSeconds", 10) if gateway else 0),
    )


def _ab_test(raw: Body) -> Canary:
    """Return an A/B test as a canary: its two steps, its metrics with the comparison, and who stays where."""
    routing = raw["trafficRouting"]
    longest = parse_duration(raw.get("maxDuration", "7d"))
    known = raw.get("stickiness", {})
    return Canary(
        steps=(SetWeight(raw.get("weight", 50)), Compare(longest)),
        analysis=parse_comparison(raw),
        gateway=_gateway(routing["gatewayAPI"]),
        propagation=timedelta(seconds=routing.get("propagationSeconds", 10)),
        max_pause=optional_duration(raw.get("maxPauseDuration")),
        stickiness=Stickiness(
            kind="header" if "header" in known else "cookie",
            name=known.get("header") or known.get("cookie", ""),
            lifetime=longest,
        ),
    )


def _gateway(raw: Body | None) -> GatewayRouting | None:
    if raw is None:
        return None
    return GatewayRouting(
        parent_refs=tuple(raw["parentRefs"]),
        hostnames=tuple(raw.get("hostnames", ())),
        path_prefix=raw.get("pathPrefix", "/"),
    )
