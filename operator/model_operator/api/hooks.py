"""`spec.hooks`: who is asked before a rollout goes on, and who is told how it goes."""

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum

from msgspec import field

from model_operator.api.analysis import Metric
from model_operator.api.json import Body
from model_operator.api.values import Duration, Number, Seconds, Value


class GatePoint(StrEnum):
    """What a gate stands before."""

    STEP = "Step"  # each step but the first
    PROMOTION = "Promotion"  # all the traffic


class Format(StrEnum):
    """How a notification is written."""

    JSON = "json"
    SLACK = "slack"  # Slack's incoming web hooks, which Mattermost, Rocket.Chat and others read as well


class WebhookEndpoint(Value, frozen=True, kw_only=True):
    """Where a hook is, and how long it may take to answer. A URL with credentials in it belongs into the Secret."""

    url: str
    timeout: timedelta
    secret_name: str | None = None


class Webhook(Value, frozen=True, kw_only=True):
    """What all hooks have in common."""

    url: str = ""
    secret_name: str | None = None
    timeout: Seconds = field(name="timeoutSeconds", default=Seconds(seconds=10))

    @property
    def address(self) -> WebhookEndpoint:
        """Where it is."""
        return WebhookEndpoint(url=self.url, timeout=self.timeout, secret_name=self.secret_name)


class Gate(Webhook, frozen=True, kw_only=True):
    """A web hook that has to say yes."""

    name: str
    before: tuple[GatePoint, ...] = (GatePoint.PROMOTION,)


class GateAnswer(Value, frozen=True, kw_only=True):
    """What a gate said of the point where a rollout is, and why."""

    is_open: bool
    message: str = ""


class Notification(Webhook, frozen=True, kw_only=True):
    """A web hook that is told of changes of phase. Without `phases` of all of them."""

    name: str
    format: Format = Format.JSON
    phases: tuple[str, ...] = ()


class Bound(Value, frozen=True, kw_only=True):
    """The least or largest value of a metric of feedback."""

    name: str
    minimum: Number | None = field(name="min", default=None)
    maximum: Number | None = field(name="max", default=None)


class Retrain(Webhook, frozen=True, kw_only=True):
    """Who is told when the live model has become worse, at most once in `cooldown`: a web hook, or a Job that is made.

    `drift` is whether drifted inputs count as worse; `bounds` are those of metrics of feedback.
    """

    job_template: Body | None = None
    cooldown: Duration = Duration(hours=24)
    drift: bool = True
    bounds: tuple[Bound, ...] = field(name="quality", default=())

    @property
    def quality(self) -> Sequence[Metric]:
        """The bounds as metrics."""
        return tuple(Metric(name=one.name, minimum=one.minimum, maximum=one.maximum) for one in self.bounds)


class Hooks(Value, frozen=True, kw_only=True):
    """All hooks of one resource."""

    gates: tuple[Gate, ...] = ()
    notifications: tuple[Notification, ...] = ()
    retrain: Retrain | None = None
