"""The status of a ModelDeployment that the operator cannot reconcile. Pure.

Either its spec passed the schema and is invalid nevertheless, or a policy of the cluster refuses it, or the operator
has a bug. The status reports it, and existing objects stay unchanged.
"""

from datetime import datetime
from typing import Any

from model_operator.api.json import Body
from model_operator.api.times import format_time
from model_operator.errors import InvalidSpec, NotAllowed

INVALID_SPEC = "InvalidSpec"
INTERNAL_ERROR = "InternalError"


def invalid_spec_patch(body: Body, error: InvalidSpec, now: datetime) -> dict[str, Any]:
    """Return the patch of status for an invalid or refused spec; empty if the status reports it already."""
    what = "the spec is not allowed" if isinstance(error, NotAllowed) else "the spec is invalid"
    return _stalled_patch(body, reason_of(error), f"{what}: {error}", now)


def reason_of(error: InvalidSpec) -> str:
    """Return the reason in the conditions and the Event."""
    return error.reason if isinstance(error, NotAllowed) else INVALID_SPEC


def internal_error_patch(body: Body, error: Exception, now: datetime) -> dict[str, Any]:
    """Return the patch of status for a bug of the operator; empty if the status reports it already."""
    message = f"the operator failed on this resource ({type(error).__name__}: {error}); its log has the details"
    return _stalled_patch(body, INTERNAL_ERROR, message[:1024], now)


def _stalled_patch(body: Body, reason: str, message: str, now: datetime) -> dict[str, Any]:
    """Return the patch of status with the reason of the stall; conditions of other types stay."""
    generation, status = body["metadata"]["generation"], body.get("status") or {}
    statuses = {"Ready": "False", "Stalled": "True"}
    conditions = list(status.get("conditions") or ())
    existing = {condition["type"]: condition for condition in conditions}
    if status.get("message") == message and existing.get("Stalled", {}).get("observedGeneration") == generation:
        return {}
    new = [
        _condition(existing.get(type_), type_, value, reason, message, generation, now)
        for type_, value in statuses.items()
    ]
    return {"message": message, "conditions": [*(c for c in conditions if c["type"] not in statuses), *new]}


def _condition(
    old: Body | None, type_: str, value: str, reason: str, message: str, generation: int, now: datetime
) -> dict[str, Any]:
    is_same = old is not None and old["status"] == value
    since = old["lastTransitionTime"] if old is not None and is_same else format_time(now)
    return {
        "type": type_,
        "status": value,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
        "observedGeneration": generation,
    }
