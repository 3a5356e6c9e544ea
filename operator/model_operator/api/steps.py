"""The steps of a canary (`spec.strategy.canary.steps`), one frozen value a kind.

Words and meaning follow Argo Rollouts (`setWeight`, `pause`, `setCanaryScale`, `setHeaderRoute`,
`setMirrorRoute`, `analysis`); `evaluate` is ours.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from model_operator.api.json import Body
from model_operator.api.times import parse_duration
from model_operator.errors import InvalidSpec


@dataclass(frozen=True, slots=True)
class SetWeight:
    """The canary takes `percent` of the traffic (0-100)."""

    percent: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for `duration`; for a person when it is None."""

    duration: timedelta | None


@dataclass(frozen=True, slots=True)
class Analysis:
    """Wait until the analysis has a verdict, at least `minimum` and at most `maximum`."""

    minimum: timedelta
    maximum: timedelta | None


@dataclass(frozen=True, slots=True)
class Compare:
    """Wait until an A/B test has a winner, at most `maximum`; only `strategy.abTest` has this step."""

    maximum: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What one measure of an evaluation has to keep; None switches a bound off.

    `max_drop` is how much worse than stable on the same data it may be.
    """

    name: str
    minimum: float | None = None
    maximum: float | None = None
    max_drop: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluate:
    """Try the candidate on labelled data before it takes traffic.

    `dataset` is a storage URI, `target` the column with the true answers, `secret_name` the Secret with the
    data's own credentials (None: those of the model).
    """

    dataset: str
    target: str
    limits: tuple[Limit, ...]
    secret_name: str | None = None
    timeout: timedelta = timedelta(hours=1)

    @property
    def compares(self) -> bool:
        """Whether stable has to be measured on the same data."""
        return any(limit.max_drop is not None for limit in self.limits)


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """One header of a request and how its value is compared."""

    name: str
    kind: Literal["exact", "regex", "prefix"]
    value: str


@dataclass(frozen=True, slots=True)
class SetHeaderRoute:
    """Requests with all these headers go to the canary; no match takes the route away."""

    matches: tuple[HeaderMatch, ...]


@dataclass(frozen=True, slots=True)
class SetMirrorRoute:
    """`percent` of the requests (0-100) are copied to the canary; 0 takes the route away."""

    percent: int


@dataclass(frozen=True, slots=True)
class SetCanaryScale:
    """Size of the canary apart from its weight: pods, percent of the whole, or None for the weight's own."""

    replicas: int | None = None
    weight: int | None = None


Step = SetWeight | Pause | Analysis | Compare | Evaluate | SetHeaderRoute | SetMirrorRoute | SetCanaryScale


def parse_step(raw: Body, where: str) -> Step:
    """Give a type to one step; `where` is its path for the error.

    Raises:
        InvalidSpec: the step is of no known kind.
    """
    for name, read in _READERS.items():
        if name in raw:
            return read(raw[name])
    raise InvalidSpec(f"{where}: {sorted(raw)} is no step; write one of {', '.join(_READERS)}")


def _pause(raw: Body) -> Pause:
    return Pause(parse_duration(raw["duration"]) if "duration" in raw else None)


def _analysis(raw: Body) -> Analysis:
    return Analysis(
        minimum=parse_duration(raw.get("minDuration", "0s")),
        maximum=parse_duration(raw["maxDuration"]) if "maxDuration" in raw else None,
    )


def _evaluate(raw: Body) -> Evaluate:
    limits = (
        Limit(
            name=limit["name"],
            minimum=limit.get("min"),
            maximum=limit.get("max"),
            max_drop=limit.get("maxDropFromStable"),
        )
        for limit in raw["metrics"]
    )
    return Evaluate(
        dataset=raw["dataset"],
        target=raw["target"],
        limits=tuple(limits),
        secret_name=raw.get("secretName"),
        timeout=timedelta(seconds=raw.get("timeoutSeconds", 3600)),
    )


def _header_route(raw: Body) -> SetHeaderRoute:
    return SetHeaderRoute(tuple(_header_match(match) for match in raw.get("match", ())))


def _header_match(raw: Body) -> HeaderMatch:
    value = raw["headerValue"]
    kinds: tuple[Literal["exact", "regex", "prefix"], ...] = ("exact", "regex", "prefix")
    for kind in kinds:
        if kind in value:
            return HeaderMatch(raw["headerName"], kind, value[kind])
    raise InvalidSpec(f"headerValue of {raw['headerName']!r}: write one of exact, regex or prefix")


def _canary_scale(raw: Body) -> SetCanaryScale:
    return SetCanaryScale(replicas=raw.get("replicas"), weight=raw.get("weight"))


_READERS: Mapping[str, Callable[[Any], Step]] = {
    "setWeight": SetWeight,
    "pause": _pause,
    "analysis": _analysis,
    "evaluate": _evaluate,
    "setHeaderRoute": _header_route,
    "setMirrorRoute": lambda raw: SetMirrorRoute(raw["percentage"]),
    "setCanaryScale": _canary_scale,
}
