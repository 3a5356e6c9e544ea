"""`spec.hooks`: webhooks that approve a rollout (gates), receive notifications, start a retraining; and a registry."""

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum

from msgspec import field

from model_operator.api.analysis import LOG_LOSS, Metric
from model_operator.api.json import Body
from model_operator.api.values import Duration, Number, Seconds, Value


class GatePoint(StrEnum):
    """Point of a rollout that a gate guards."""

    STEP = "Step"  # each step but the first
    PROMOTION = "Promotion"  # all the traffic


class Format(StrEnum):
    """Format of the body of a notification."""

    JSON = "json"
    SLACK = "slack"  # incoming webhooks of Slack, which Mattermost, Rocket.Chat and others also accept


class WebhookEndpoint(Value, frozen=True, kw_only=True):
    """URL and timeout of a webhook. A URL that contains credentials belongs in the Secret."""

    url: str
    timeout: timedelta
    secret_name: str | None = None


class Webhook(Value, frozen=True, kw_only=True):
    """Fields that all webhooks have."""

    url: str = ""
    secret_name: str | None = None
    timeout: Seconds = field(name="timeoutSeconds", default=Seconds(seconds=10))

    @property
    def address(self) -> WebhookEndpoint:
        """Endpoint of the webhook."""
        return WebhookEndpoint(url=self.url, timeout=self.timeout, secret_name=self.secret_name)


class Gate(Webhook, frozen=True, kw_only=True):
    """A webhook that must approve the rollout."""

    name: str
    before: tuple[GatePoint, ...] = (GatePoint.PROMOTION,)


class GateAnswer(Value, frozen=True, kw_only=True):
    """Response of a gate for one point of a rollout."""

    is_open: bool
    message: str = ""


class Notification(Webhook, frozen=True, kw_only=True):
    """A webhook that receives changes of phase: those in `phases`, or all if it is empty."""

    name: str
    format: Format = Format.JSON
    phases: tuple[str, ...] = ()


class Bound(Value, frozen=True, kw_only=True):
    """Minimum or maximum of a feedback metric."""

    name: str
    minimum: Number | None = field(name="min", default=None)
    maximum: Number | None = field(name="max", default=None)

    def __post_init__(self) -> None:
        """Refuse a bound on the wrong side, on both sides, and none."""
        given = [self.minimum is not None, self.maximum is not None]
        if given != [self.name != LOG_LOSS, self.name == LOG_LOSS]:
            raise ValueError(f"{self.name} needs {'max' if self.name == LOG_LOSS else 'min'} and no other bound")


class EstimatedBound(Value, frozen=True, kw_only=True):
    """Minimum of a metric that servers estimate without labels."""

    name: str
    minimum: Number = field(name="min")


class Retrain(Webhook, frozen=True, kw_only=True):
    """Webhook or Job that trains the model again when the live model degrades, at most once in `cooldown`.

    `drift` is whether drifted inputs are a cause; `bounds` are those of feedback metrics, `estimated` those of metrics
    that servers estimate without labels.
    """

    job_template: Body | None = None
    cooldown: Duration = Duration(hours=24)
    drift: bool = True
    bounds: tuple[Bound, ...] = field(name="quality", default=())
    estimated: tuple[EstimatedBound, ...] = field(name="estimatedQuality", default=())

    @property
    def quality(self) -> Sequence[Metric]:
        """The bounds as metrics."""
        return tuple(Metric(name=one.name, minimum=one.minimum, maximum=one.maximum) for one in self.bounds)


class RegistryHook(Webhook, frozen=True, kw_only=True):
    """The registry of the model, whose versions get the verdicts of rollouts as tags."""


class Hooks(Value, frozen=True, kw_only=True):
    """All hooks of one resource."""

    gates: tuple[Gate, ...] = ()
    notifications: tuple[Notification, ...] = ()
    retrain: Retrain | None = None
    registry: RegistryHook | None = None
