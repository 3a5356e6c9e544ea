"""Gates: webhooks that must approve before a rollout continues. Pure; `engine.gate_poller` calls them.

The decision of a rule that would pass a gate is replaced by a pause, until every gate at that point is open. The
operator polls gates during such a pause, so a restarted operator polls them again and continues from there. Gates apply
to new revisions only: an undo and the fix of a broken stable revision pass.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from model_operator.api.hooks import Gate, GatePoint
from model_operator.api.resource import ModelDeployment
from model_operator.api.status import Mode, Phase, Status
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.rollout.pauses import PauseReason
from model_operator.policy.rollout.transitions import pause


def apply_gates(s: RolloutContext, following: Status) -> Status:
    """Return the decision of a rule, or a pause in its place until all gates are open."""
    point = crossed_gate(s.status, following, len(s.steps))
    return pause(s, PauseReason.GATE) if point and closed_gates(s, point) else following


def crossed_gate(before: Status, after: Status, steps: int) -> GatePoint | None:
    """Return the gate point between two statuses of one rollout: a further step, the promotion, or None."""
    if before.mode is not Mode.STEPS or not before.canary or after.canary != before.canary:
        return None
    if after.phase is Phase.PROMOTING and before.phase is not Phase.PROMOTING:
        return GatePoint.PROMOTION
    is_further = after.step_index > before.step_index and after.steps_hash == before.steps_hash
    return GatePoint.STEP if is_further and after.step_index < steps else None


def closed_gates(s: RolloutContext, point: GatePoint) -> Sequence[Gate]:
    """Return the gates of a point that are not open."""
    answers = s.observed.gates
    gates = (gate for gate in s.spec.hooks.gates if point in gate.before)
    return [gate for gate in gates if gate.name not in answers or not answers[gate.name].is_open]


def waiting_at(s: RolloutContext) -> GatePoint | None:
    """Return the point at which a rollout waits for gates; None if it does not."""
    if not any(condition.reason == PauseReason.GATE for condition in s.status.pauses):
        return None
    return GatePoint.STEP if s.status.step_index < len(s.steps) else GatePoint.PROMOTION


def gate_words(s: RolloutContext) -> str:
    """Return the answers of the gates that are not open, as text."""
    point = waiting_at(s)
    closed = closed_gates(s, point) if point else ()
    answers = ((gate.name, s.observed.gates.get(gate.name)) for gate in closed)
    return "; ".join(f"gate {name}: {answer.message if answer else 'no answer yet'}" for name, answer in answers)


def question(resource: ModelDeployment, gate: Gate) -> Mapping[str, Any]:
    """Return the body of the request to a gate."""
    status = resource.status
    return {
        "gate": gate.name,
        "namespace": resource.key.namespace,
        "name": resource.name,
        "stableRevision": status.stable,
        "canaryRevision": status.canary,
        "step": status.step,
        "weight": status.weights.applied,
        "message": status.message,
    }
