"""The steps of a canary (`spec.strategy.canary.steps`), one frozen value a kind.

Words and meaning follow Argo Rollouts (`setWeight`, `pause`, `setCanaryScale`, `setHeaderRoute`,
`setMirrorRoute`, `analysis`); `evaluate` is ours. `status.currentStepHash` is made of their texts (`repr`): where a
field is renamed or moved, rollouts that are under way take their steps for changed ones.
"""

from datetime import timedelta
from typing import Literal

from msgspec import field

from model_operator.api.json import Body
from model_operator.api.values import Duration, Number, Seconds, Value, read
from model_operator.errors import InvalidSpec


class SetWeight(Value, frozen=True):
    """The canary takes `percent` of the traffic (0-100)."""

    percent: int


class Pause(Value, frozen=True):
    """Wait for `duration`; for a person when it is None."""

    duration: Duration | None = None


class Analysis(Value, frozen=True):
    """Wait until the analysis has a verdict, at least `minimum` and at most `maximum`."""

    minimum: Duration = field(name="minDuration", default=Duration())
    maximum: Duration | None = field(name="maxDuration", default=None)


class Compare(Value, frozen=True):
    """Wait until an A/B test has a winner, at most `maximum`; only `strategy.abTest` has this step."""

    maximum: timedelta


class Limit(Value, frozen=True, kw_only=True):
    """What one measure of an evaluation has to keep; None switches a bound off.

    `max_drop` is how much worse than stable on the same data it may be.
    """

    name: str
    minimum: Number | None = field(name="min", default=None)
    maximum: Number | None = field(name="max", default=None)
    max_drop: Number | None = field(name="maxDropFromStable", default=None)


class Evaluate(Value, frozen=True, kw_only=True):
    """Try the candidate on labelled data before it takes traffic.

    `dataset` is a storage URI, `target` the column with the true answers, `secret_name` the Secret with the
    data's own credentials (None: those of the model).
    """

    dataset: str
    target: str
    limits: tuple[Limit, ...] = field(name="metrics")
    secret_name: str | None = None
    timeout: Seconds = field(name="timeoutSeconds", default=Seconds(hours=1))

    @property
    def compares(self) -> bool:
        """Whether stable has to be measured on the same data."""
        return any(limit.max_drop is not None for limit in self.limits)


class HeaderMatch(Value, frozen=True):
    """One header of a request and how its value is compared."""

    name: str
    kind: Literal["exact", "regex", "prefix"]
    value: str


class SetHeaderRoute(Value, frozen=True):
    """Requests with all these headers go to the canary; no match takes the route away."""

    matches: tuple[HeaderMatch, ...]


class SetMirrorRoute(Value, frozen=True):
    """`percent` of the requests (0-100) are copied to the canary; 0 takes the route away."""

    percent: int = field(name="percentage")


class SetCanaryScale(Value, frozen=True):
    """Size of the canary apart from its weight: pods, percent of the whole, or None for the weight's own."""

    replicas: int | None = None
    weight: int | None = None


Step = SetWeight | Pause | Analysis | Compare | Evaluate | SetHeaderRoute | SetMirrorRoute | SetCanaryScale


class HeaderValueFields(Value, frozen=True, kw_only=True):
    """How a header's value is compared: exactly one field is there."""

    exact: str | None = None
    regex: str | None = None
    prefix: str | None = None


class HeaderMatchFields(Value, frozen=True, kw_only=True):
    """One entry of `setHeaderRoute.match`."""

    header_name: str
    header_value: HeaderValueFields

    def value(self, where: str) -> HeaderMatch:
        """Return it as a value."""
        given = self.header_value
        match (given.exact, given.regex, given.prefix):
            case (str(value), None, None):
                return HeaderMatch(self.header_name, "exact", value)
            case (None, str(value), None):
                return HeaderMatch(self.header_name, "regex", value)
            case (None, None, str(value)):
                return HeaderMatch(self.header_name, "prefix", value)
        raise InvalidSpec(f"{where}: headerValue of {self.header_name!r}: write exactly one of exact, regex or prefix")


class HeaderRouteFields(Value, frozen=True, kw_only=True):
    """The step `setHeaderRoute`."""

    match: tuple[HeaderMatchFields, ...] = ()


class CanaryScaleFields(Value, frozen=True, kw_only=True):
    """The step `setCanaryScale`: exactly one field is there."""

    replicas: int | None = None
    weight: int | None = None
    match_traffic_weight: bool | None = None


class StepFields(Value, frozen=True, kw_only=True):
    """One step as it is written: exactly one field is there."""

    set_weight: int | None = None
    pause: Pause | None = None
    analysis: Analysis | None = None
    evaluate: Evaluate | None = None
    set_header_route: HeaderRouteFields | None = None
    set_mirror_route: SetMirrorRoute | None = None
    set_canary_scale: CanaryScaleFields | None = None

    def value(self, where: str) -> Step:
        """Return the step as a value.

        Raises:
            InvalidSpec: it is of no kind, or of several; `where` is its path for the message.
        """
        header, scale = self.set_header_route, self.set_canary_scale
        given: tuple[Step | None, ...] = (
            None if self.set_weight is None else SetWeight(self.set_weight),
            self.pause,
            self.analysis,
            self.evaluate,
            SetHeaderRoute(tuple(match.value(where) for match in header.match)) if header else None,
            self.set_mirror_route,
            SetCanaryScale(replicas=scale.replicas, weight=scale.weight) if scale else None,
        )
        steps = [step for step in given if step is not None]
        if len(steps) != 1:
            known = ", ".join(self.__struct_encode_fields__)
            found = f"{len(steps)} steps" if steps else "no step that is known"
            raise InvalidSpec(f"{where} is {found}; write exactly one of {known}")
        return steps[0]


def parse_step(raw: Body, where: str) -> Step:
    """Give a type to one step; `where` is its path for the error.

    Raises:
        InvalidSpec: the step is of no known kind.
    """
    return read(raw, StepFields, where).value(where)


def parse_steps(steps: tuple[StepFields, ...], where: str) -> tuple[Step, ...]:
    """Return the values of all steps."""
    return tuple(step.value(f"{where}[{i}]") for i, step in enumerate(steps))
