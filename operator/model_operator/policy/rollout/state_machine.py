"""The state machine of a rollout: a list of rules in order of precedence; the first that applies decides.

A rule is a function of one RolloutContext. It returns a new status, the unchanged status (the rule holds
the rollout: later rules are skipped), or None (the rule does not apply). `advance` applies rules until
the status is stable, but stops at a change of the applied weight, which must be persisted and applied
before the next decision.
"""

from collections.abc import Callable, Sequence

from model_operator.api.status import Mode, Phase, Source, Status
from model_operator.observation.pod_failures import is_terminal, most_severe
from model_operator.policy.rollout import rollback, rules
from model_operator.policy.rollout.annotations import accepted, answer_the_rest, forget_withdrawn, is_asked
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.rollout.gates import apply_gates
from model_operator.policy.rollout.replica_counts import full_size
from model_operator.policy.rollout.sleep import claim_port, fall_asleep, finish_waking, wake
from model_operator.policy.rollout.transitions import begin, remember

Rule = Callable[[RolloutContext], Status | None]

#: More transitions than any path through the states has; reaching it is a bug.
_LIMIT = 100


def advance(s: RolloutContext) -> Status:
    """Return the status after all transitions that need no further observation."""
    status = detect_changed_artifact(s.under(forget_withdrawn(s)))
    status = claim_port(s.under(status))
    for _ in range(_LIMIT):
        following = _one_step(s.under(status))
        if following == status:
            return answer_the_rest(s.under(status))
        has_new_weight = following.weights.applied != status.weights.applied
        status = following
        if has_new_weight:
            return status
    raise AssertionError(f"the rollout of {s.resource.key} does not converge at {status}")


def _one_step(s: RolloutContext) -> Status:
    for rule in rules_of(s.status):
        status = rule(s)
        if status is not None:
            return apply_gates(s, status)
    return s.status


def rules_of(status: Status) -> Sequence[Rule]:
    """Return the rules of a state, in order of precedence."""
    if not status.stable:
        return (first_revision,)
    if status.phase is Phase.ROLLING_BACK:
        return (rollback.roll_back,)
    if status.canary:
        return rules.RULES
    if status.previous:
        return (drain,)
    if status.phase is Phase.PENDING:
        return (replace_pending, first_ready, first_progress, first_failed)
    if status.phase is Phase.SLEEPING:
        return (wake,)
    if status.phase is Phase.WAKING:
        return (finish_waking, first_progress, first_failed)
    return (leave_degraded, start_rollout, watch_stable, fall_asleep)


def first_revision(s: RolloutContext) -> Status:
    """Make the first revision of a new resource stable; there is no other to compare it with."""
    return s.changed(
        phase=Phase.PENDING, stable=s.target, progressed_at=s.now, rollout_started_at=s.now, mode=Mode.STEPS
    )


def replace_pending(s: RolloutContext) -> Status | None:
    """Replace the first revision because the spec changed before it served."""
    if s.target == s.status.stable or s.stable_view.available > 0:
        return None
    return s.changed(stable=s.target, progressed_at=s.now, rollout_started_at=s.now, pod_failures=())


def first_ready(s: RolloutContext) -> Status | None:
    """Become healthy when the first revision is available."""
    if s.stable_view.available < full_size(s):
        return None
    has_served = s.stable_view.available > 0
    return s.changed(
        phase=Phase.HEALTHY,
        progressed_at=None,
        progressed_replicas=0,
        rollout_started_at=None,
        history=remember(s, s.status.stable, "Promoted", "FirstRevision") if has_served else s.status.history,
    )


def first_progress(s: RolloutContext) -> Status | None:
    """Restart the progress deadline when more pods of the first revision are available."""
    if s.stable_view.available <= s.status.progressed_replicas:
        return None
    return s.changed(progressed_at=s.now, progressed_replicas=s.stable_view.available)


def first_failed(s: RolloutContext) -> Status | None:
    """Become degraded when the first revision fails, or is late; its pods keep trying."""
    problem = most_severe(s.stable_view.problems)
    is_late = s.since(s.status.progressed_at) > s.spec.progress_deadline
    if is_late or (problem is not None and is_terminal(problem)):
        return s.changed(phase=Phase.DEGRADED)
    return None


def leave_degraded(s: RolloutContext) -> Status | None:
    """Become healthy when the spec has the stable revision again after an abort."""
    if s.status.aborted and s.target == s.status.stable:
        return s.changed(phase=Phase.HEALTHY, aborted="", rollback=None, pod_failures=())
    return None


def detect_changed_artifact(s: RolloutContext) -> Status:
    """Record that a server found a changed object at the URI, which makes a new revision of the same spec.

    During a rollout only the report of the canary counts: it loaded last.
    """
    model = s.spec.model
    fingerprint = (s.canary_view if s.status.canary else s.stable_view).changed_fingerprint
    if not fingerprint or model.poll_interval is None:
        return s.status
    return s.changed(source=Source(uri=model.storage_uri, fingerprint=fingerprint))


def start_rollout(s: RolloutContext) -> Status | None:
    """Start the rollout of a revision of the spec that is neither stable nor aborted.

    A model that is scaled to zero keeps its revision: without a pod, the new one cannot be verified.
    """
    target = s.target
    if target == s.status.stable or s.spec.paused or full_size(s) == 0:
        return None
    if target != s.status.aborted:
        return begin(s)
    if not is_asked(s, "retry", target):
        return None
    return begin(s, **accepted(s, "retry", f"revision {target} is rolled out again"))


def watch_stable(s: RolloutContext) -> Status | None:
    """Set the phase outside of a rollout: healthy if stable serves, degraded otherwise."""
    if s.status.aborted:
        return None
    is_down = s.stable_view.available == 0 and full_size(s) > 0
    phase = Phase.DEGRADED if is_down else Phase.HEALTHY
    has_served = any(entry.revision == s.status.stable for entry in s.status.history)
    serves_first = not has_served and s.stable_view.available > 0
    if phase is s.status.phase and not serves_first:
        return None
    history = remember(s, s.status.stable, "Promoted", "FirstRevision") if serves_first else s.status.history
    return s.changed(phase=phase, history=history)


def drain(s: RolloutContext) -> Status | None:
    """Keep the old revision for the scale-down delay after the promotion, then remove it."""
    is_over = s.since(s.status.drain_started_at) >= s.scale_down_delay
    is_empty = s.observed.revision(s.status.previous).ready == 0 and not s.observed.front.selects_all_revisions
    if is_over and is_empty:
        return s.changed(
            phase=Phase.HEALTHY,
            previous="",
            drain_started_at=None,
            progressed_at=None,
            progressed_replicas=0,
            rollout_started_at=None,
        )
    return s.status
