"""The status of a ModelDeployment that the operator cannot reconcile. Pure.

Either its spec passed the schema and is invalid nevertheless, or the operator has a bug. The status reports both, and
existing objects stay unchanged.
"""

from datetime import datetime
from typing import Any

from model_operator.api.json import Body
from model_operator.api.times import format_time

INVALID_SPEC = "InvalidSpec"
INTERNAL_ERROR = "InternalError"


def invalid_spec_patch(body: Body, problem: str, now: datetime) -> dict[str, Any]:
    """Return the patch of status for an invalid spec; empty if the status reports it already."""
    return _stalled_patch(body, INVALID_SPEC, f"the spec is invalid: {problem}", now)


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
