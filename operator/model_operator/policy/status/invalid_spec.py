"""What status says of a spec that the schema let through and that the operator does not understand. Pure."""

from datetime import datetime
from typing import Any

from model_operator.api.json import Body
from model_operator.api.times import format_time

REASON = "InvalidSpec"


def invalid_spec_patch(body: Body, problem: str, now: datetime) -> dict[str, Any]:
    """Return the patch of status, empty when status says it already; conditions of other types stay."""
    generation, status = body["metadata"]["generation"], body.get("status") or {}
    message = f"the spec is not understood: {problem}"
    wanted = {"Ready": "False", "Stalled": "True"}
    conditions = list(status.get("conditions") or ())
    known = {condition["type"]: condition for condition in conditions}
    if status.get("message") == message and known.get("Stalled", {}).get("observedGeneration") == generation:
        return {}
    told = [_condition(known.get(type_), type_, value, message, generation, now) for type_, value in wanted.items()]
    return {"message": message, "conditions": [*(c for c in conditions if c["type"] not in wanted), *told]}


def _condition(
    old: Body | None, type_: str, value: str, message: str, generation: int, now: datetime
) -> dict[str, Any]:
    is_same = old is not None and old["status"] == value
    since = old["lastTransitionTime"] if old is not None and is_same else format_time(now)
    return {
        "type": type_,
        "status": value,
        "reason": REASON,
        "message": message,
        "lastTransitionTime": since,
        "observedGeneration": generation,
    }
