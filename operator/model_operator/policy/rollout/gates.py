"""Gates: web hooks that have to say yes before a rollout goes on. Pure; the asking is `engine.gatekeeper`'s.

A rule that would pass a gate is answered with a pause instead, until every gate there was seen open. The pause is
what makes the operator ask, so whoever is restarted in it asks again and goes on from there. Gates stand in the way of
what is new: an undo and the mending of a broken stable pass.
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
    """Return what a rule decided, or a pause in its place while a gate is not known to be open."""
    point = crossed_gate(s.status, following, len(s.steps))
    return pause(s, PauseReason.GATE) if point and closed_gates(s, point) else following


def crossed_gate(before: Status, after: Status, steps: int) -> GatePoint | None:
    """Return what lies between two statuses of one rollout: a further step, the promotion, or nothing."""
    if before.mode is not Mode.STEPS or not before.canary or after.canary != before.canary:
        return None
    if after.phase is Phase.PROMOTING and before.phase is not Phase.PROMOTING:
        return GatePoint.PROMOTION
    is_further = after.step_index > before.step_index and after.steps_hash == before.steps_hash
    return GatePoint.STEP if is_further and after.step_index < steps else None


def closed_gates(s: RolloutContext, point: GatePoint) -> Sequence[Gate]:
    """Return the gates before a point that have not said yes."""
    known = s.observed.gates
    gates = (gate for gate in s.spec.hooks.gates if point in gate.before)
    return [gate for gate in gates if gate.name not in known or not known[gate.name].is_open]


def waiting_at(s: RolloutContext) -> GatePoint | None:
    """Return what a rollout that pauses at a gate waits for; None when it does not."""
    if not any(condition.reason == PauseReason.GATE for condition in s.status.pauses):
        return None
    return GatePoint.STEP if s.status.step_index < len(s.steps) else GatePoint.PROMOTION


def gate_words(s: RolloutContext) -> str:
    """Return what the gates that are in the way have said."""
    point = waiting_at(s)
    closed = closed_gates(s, point) if point else ()
    answers = ((gate.name, s.observed.gates.get(gate.name)) for gate in closed)
    return "; ".join(f"gate {name}: {answer.message if answer else 'is being asked'}" for name, answer in answers)


def question(resource: ModelDeployment, gate: Gate) -> Mapping[str, Any]:
    """Return what a gate is asked: may this rollout go on from where it is?"""
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
