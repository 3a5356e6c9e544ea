"""The body of a notification about a change of phase. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from model_operator.api.hooks import Format, Notification
from model_operator.api.resource import ModelDeployment
from model_operator.api.status import Phase, Status
from model_operator.api.times import format_time

_SIGNS = {
    Phase.HEALTHY: ":white_check_mark:",
    Phase.DEGRADED: ":rotating_light:",
    Phase.ROLLING_BACK: ":leftwards_arrow_with_hook:",
    Phase.PAUSED: ":double_vertical_bar:",
}


def notice(
    notification: Notification, resource: ModelDeployment, new: Status, now: datetime
) -> Mapping[str, Any] | None:
    """Return the body to send; None if the phase is unchanged or not selected."""
    old = resource.status
    if new.phase is old.phase or (notification.phases and new.phase not in notification.phases):
        return None
    if notification.format is Format.SLACK:
        sign = _SIGNS.get(new.phase, ":arrow_forward:")
        name = f"{resource.key.namespace}/{resource.name}"
        return {"text": f"{sign} *{_plain(name)}* is {new.phase}: {_plain(new.message)}"}
    return {
        "namespace": resource.key.namespace,
        "name": resource.name,
        "phase": str(new.phase),
        "previousPhase": str(old.phase),
        "message": new.message,
        "reason": new.rollback.reason if new.rollback else "",
        "stableRevision": new.stable,
        "canaryRevision": new.canary,
        "weight": new.weights.applied,
        "at": format_time(now),
    }


def _plain(text: str) -> str:
    """Escape the control characters of Slack (https://docs.slack.dev/messaging/formatting-message-text#escaping)."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
