"""The steps of a canary (`spec.strategy.canary.steps`), one frozen value for each kind.

Names and semantics follow Argo Rollouts (https://argo-rollouts.readthedocs.io/en/stable/features/canary/): `setWeight`,
`pause`, `setCanaryScale`, `setHeaderRoute`, `setMirrorRoute`, `analysis`. Only `evaluate` and `replay` are new.
`status.currentStepHash` hashes their `repr`: renaming or moving a field makes running rollouts see changed steps.
"""

from datetime import timedelta
from typing import Literal

from msgspec import field

from model_operator.api.json import Body
from model_operator.api.values import Duration, Number, Seconds, Value, read, repr_without
from model_operator.errors import InvalidSpec


class SetWeight(Value, frozen=True):
    """The canary takes `percent` of the traffic (0-100)."""

    percent: int


class Pause(Value, frozen=True):
    """Pause for `duration`; until a user promotes if it is None."""

    duration: Duration | None = None


class Analysis(Value, frozen=True):
    """Wait until the analysis has a verdict, at least `minimum` and at most `maximum`."""

    minimum: Duration = field(name="minDuration", default=Duration())
    maximum: Duration | None = field(name="maxDuration", default=None)


class Compare(Value, frozen=True):
    """Wait until an A/B test has a winner, at most `maximum`; only `strategy.abTest` has this step."""

    maximum: timedelta


class Limit(Value, frozen=True, kw_only=True):
    """Bounds of one metric of an evaluation; None disables a bound.

    `max_drop` is the tolerated drop below the value of stable on the same data.
    """

    name: str
    minimum: Number | None = field(name="min", default=None)
    maximum: Number | None = field(name="max", default=None)
    max_drop: Number | None = field(name="maxDropFromStable", default=None)


class Evaluate(Value, frozen=True, kw_only=True):
    """Evaluate the new model on labelled data before it receives traffic.

    `dataset` is a storage URI, `target` the column with the true labels, `secret_name` the Secret with the
    credentials for the data (None: those for the model). `groups` are columns by whose values quality is told apart.
    """

    dataset: str
    target: str
    limits: tuple[Limit, ...] = field(name="metrics")
    secret_name: str | None = None
    timeout: Seconds = field(name="timeoutSeconds", default=Seconds(hours=1))
    groups: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return the text that names of Jobs and `status.currentStepHash` are made of."""
        return repr_without(self, "groups")

    @property
    def compares(self) -> bool:
        """Whether stable must be evaluated on the same data."""
        return any(limit.max_drop is not None for limit in self.limits)


class Agreement(Value, frozen=True, kw_only=True):
    """Least share of equal answers (`minimum`); numbers within `tolerance` are equal."""

    minimum: Number = field(name="min")
    tolerance: Number = 0


class Distance(Value, frozen=True, kw_only=True):
    """Largest mean distance of numbers (`maximum`), divided by the larger of the two if `relative`."""

    maximum: Number = field(name="max")
    relative: bool = False


class Latency(Value, frozen=True, kw_only=True):
    """Largest median of the time for an answer, as a multiple of the time of stable for the same request."""

    max_ratio: Number


class Replay(Value, frozen=True, kw_only=True):
    """Compare the answers of the new model to recent requests of stable, before it receives traffic.

    `requests` is the size of the sample. After `timeout` the requests that there are decide.
    """

    requests: int = 500
    agreement: Agreement | None = None
    distance: Distance | None = None
    latency: Latency | None = None
    timeout: Seconds = field(name="timeoutSeconds", default=Seconds(minutes=15))


class HeaderMatch(Value, frozen=True):
    """One header of a request and how its value is compared."""

    name: str
    kind: Literal["exact", "regex", "prefix"]
    value: str


class SetHeaderRoute(Value, frozen=True):
    """Send requests with all these headers to the canary; without matches, remove the route."""

    matches: tuple[HeaderMatch, ...]


class SetMirrorRoute(Value, frozen=True):
    """Copy `percent` of the requests (0-100) to the canary; 0 removes the route."""

    percent: int = field(name="percentage")


class SetCanaryScale(Value, frozen=True):
    """Scale the canary independently of its weight, to a number of pods or a percentage; None follows the weight."""

    replicas: int | None = None
    weight: int | None = None


Step = SetWeight | Pause | Analysis | Compare | Evaluate | Replay | SetHeaderRoute | SetMirrorRoute | SetCanaryScale


class HeaderValueFields(Value, frozen=True, kw_only=True):
    """Condition on the value of a header; exactly one field is set."""

    exact: str | None = None
    regex: str | None = None
    prefix: str | None = None


class HeaderMatchFields(Value, frozen=True, kw_only=True):
    """One entry of `setHeaderRoute.match`."""

    header_name: str
    header_value: HeaderValueFields

    def value(self, where: str) -> HeaderMatch:
        """Return the match as a value."""
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
    """The step `setCanaryScale`; exactly one field is set."""

    replicas: int | None = None
    weight: int | None = None
    match_traffic_weight: bool | None = None


class StepFields(Value, frozen=True, kw_only=True):
    """One step on the wire; exactly one field is set."""

    set_weight: int | None = None
    pause: Pause | None = None
    analysis: Analysis | None = None
    evaluate: Evaluate | None = None
    replay: Replay | None = None
    set_header_route: HeaderRouteFields | None = None
    set_mirror_route: SetMirrorRoute | None = None
    set_canary_scale: CanaryScaleFields | None = None

    def value(self, where: str) -> Step:
        """Return the step as a value.

        Raises:
            InvalidSpec: it has no kind, or several; `where` is its path for the message.
        """
        header, scale = self.set_header_route, self.set_canary_scale
        given: tuple[Step | None, ...] = (
            None if self.set_weight is None else SetWeight(self.set_weight),
            self.pause,
            self.analysis,
            self.evaluate,
            self.replay,
            SetHeaderRoute(tuple(match.value(where) for match in header.match)) if header else None,
            self.set_mirror_route,
            SetCanaryScale(replicas=scale.replicas, weight=scale.weight) if scale else None,
        )
        steps = [step for step in given if step is not None]
        if len(steps) != 1:
            kinds = ", ".join(self.__struct_encode_fields__)
            found = f"{len(steps)} steps" if steps else "not a known step"
            raise InvalidSpec(f"{where} is {found}; write exactly one of {kinds}")
        return steps[0]


def parse_step(raw: Body, where: str) -> Step:
    """Convert one step to a value; `where` is its path for the error.

    Raises:
        InvalidSpec: the kind of the step is unknown.
    """
    return read(raw, StepFields, where).value(where)


def parse_steps(steps: tuple[StepFields, ...], where: str) -> tuple[Step, ...]:
    """Return the values of all steps."""
    return tuple(step.value(f"{where}[{i}]") for i, step in enumerate(steps))
