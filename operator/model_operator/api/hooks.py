"""`spec.hooks`: who is asked before a rollout goes on, and who is told how it goes."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from model_operator.api.analysis import Metric
from model_operator.api.json import Body
from model_operator.api.times import parse_duration


class GatePoint(StrEnum):
    """What a gate stands before."""

    STEP = "Step"  # each step but the first
    PROMOTION = "Promotion"  # all the traffic


class Format(StrEnum):
    """How a notification is written."""

    JSON = "json"
    SLACK = "slack"  # Slack's incoming web hooks, which Mattermost, Rocket.Chat and others read as well


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEndpoint:
    """Where a hook is, and how long it may take to answer. A URL with credentials in it belongs into the Secret."""

    url: str
    timeout: timedelta
    secret_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A web hook that has to say yes."""

    name: str
    address: WebhookEndpoint
    before: tuple[GatePoint, ...] = (GatePoint.PROMOTION,)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateAnswer:
    """What a gate said of the point where a rollout is, and why."""

    is_open: bool
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A web hook that is told of changes of phase. Without `phases` of all of them."""

    name: str
    address: WebhookEndpoint
    format: Format = Format.JSON
    phases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrain:
    """Who is told when the live model has become worse, at most once in `cooldown`: a web hook, or a Job that is made.

    `drift` is whether drifted inputs count as worse; `quality` holds bounds of metrics of feedback.
    """

    address: WebhookEndpoint | None = None
    job_template: Body | None = None
    cooldown: timedelta
    drift: bool
    quality: tuple[Metric, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """All hooks of one resource."""

    gates: tuple[Gate, ...] = ()
    notifications: tuple[Notification, ...] = ()
    retrain: Retrain | None = None


def parse_hooks(raw: Body | None) -> Hooks:
    """Give types to `spec.hooks`."""
    raw = raw or {}
    return Hooks(
        gates=tuple(
            Gate(
                name=one["name"],
                address=_address(one),
                before=tuple(GatePoint(point) for point in one.get("before", ("Promotion",))),
            )
            for one in raw.get("gates", ())
        ),
        notifications=tuple(
            Notification(
                name=one["name"],
                address=_address(one),
                format=Format(one.get("format", "json")),
                phases=tuple(one.get("phases", ())),
            )
            for one in raw.get("notifications", ())
        ),
        retrain=_retrain(raw["retrain"]) if "retrain" in raw else None,
    )


def _retrain(raw: Body) -> Retrain:
    return Retrain(
        address=None if "jobTemplate" in raw else _address(raw),
        job_template=raw.get("jobTemplate"),
        cooldown=parse_duration(raw.get("cooldown", "24h")),
        drift=raw.get("drift", True),
        quality=tuple(
            Metric(name=one["name"], minimum=one.get("min"), maximum=one.get("max")) for one in raw.get("quality", ())
        ),
    )


def _address(raw: Body) -> WebhookEndpoint:
    return WebhookEndpoint(
        url=raw.get("url", ""),
        timeout=timedelta(seconds=raw.get("timeoutSeconds", 10)),
        secret_name=raw.get("secretName"),
    )
