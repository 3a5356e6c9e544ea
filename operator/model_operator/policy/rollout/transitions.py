"""The transitions that several rules share: start, rollback, pause, resume, and the history."""

from datetime import datetime, timedelta
from typing import Any

from model_operator.api.source import declared_version
from model_operator.api.status import HistoryEntry, Mode, PauseCondition, Phase, Rollback, Status, Weights
from model_operator.api.values import replace
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.rollout.pauses import PauseReason
from model_operator.policy.rollout.replica_counts import full_size

#: Entries of `status.history`.
HISTORY_LIMIT = 20


def begin(s: RolloutContext, **facts: Any) -> Status:
    """Return the status at the start of the rollout of the spec's revision."""
    mode = mode_of(s)
    if mode is Mode.FAST:
        facts["history"] = _with_undone(s, facts.get("history", s.status.history))
    status = s.changed(
        phase=Phase.PROGRESSING,
        canary=s.target,
        aborted="",
        previous="",
        rollback=None,
        mode=mode,
        step_index=0,
        step_started_at=s.now,
        rollout_started_at=s.now,
        # During a rollout that replaces another one, stable may already be smaller.
        rollout_replicas=s.status.rollout_replicas or (full_size(s) if s.spec.autoscaling else 0),
        progressed_at=s.now,
        progressed_replicas=0,
        endpoints_lost_at=None,
        drain_started_at=None,
        weights=Weights(),
        pauses=(),
        analysis=None,
        evaluation=None,
        replay=None,
        pod_failures=(),
        # The condition of the previous revision does not apply to this one.
        conditions=tuple(c for c in s.status.conditions if c.type != "ModelLoaded"),
        **facts,
    )
    return replace(status, steps_hash=s.under(status).steps_hash)


def mode_of(s: RolloutContext) -> Mode:
    """Return the mode of the rollout of the target.

    A return to a known good revision is fast; a stable revision without ready pods must not block its own fix.
    """
    if is_known_good(s, s.target) and s.observed.revision(s.target).source is not None:
        return Mode.FAST
    stable = s.stable_view
    if stable.available == 0 and stable.problems and full_size(s) > 0:
        return Mode.RESCUE
    return Mode.STEPS


def is_known_good(s: RolloutContext, revision: str) -> bool:
    """Return whether a revision was promoted and later superseded by a newer one, and was not undone."""
    last = next((entry.result for entry in s.status.history if entry.revision == revision), "")
    return last == "Promoted"


def remember(
    s: RolloutContext, revision: str, result: str, reason: str, message: str = "", *, requested: str = ""
) -> tuple[HistoryEntry, ...]:
    """Return the history with one more entry in front, at most as many as `HISTORY_LIMIT`.

    The entry has the users of the accepted requests for its revision, and for `requested` if that is another one.
    """
    view = s.observed.revision(revision)
    model = (view.source or {}).get("model", {})
    accepted = [answer for answer in s.status.answers.values() if answer.is_accepted]
    users = {answer.user for answer in accepted if answer.user and answer.revision in (revision, requested)}
    entry = HistoryEntry(
        revision=revision,
        result=result,
        reason=reason,
        message=message,
        at=s.now,
        version=view.model.version if view.model else model.get("version", "") or _registered_version(s, revision),
        uri=model.get("storageUri", ""),
        sha256=view.model.sha256 if view.model else model.get("sha256", ""),
        requested_by=", ".join(sorted(users)),
    )
    return (entry, *s.status.history)[:HISTORY_LIMIT]


def _registered_version(s: RolloutContext, revision: str) -> str:
    """Return the version in its registry of a revision that has not reported one."""
    uri = (s.observed.revision(revision).source or {}).get("model", {}).get("storageUri", "")
    return declared_version(uri, s.target_fingerprint if revision == s.target else "")


def _with_undone(s: RolloutContext, history: tuple[HistoryEntry, ...]) -> tuple[HistoryEntry, ...]:
    """Record that stable is replaced by an older revision, so that its next rollout takes all steps again."""
    message = f"the spec has revision {s.target} again"
    entry = remember(s, s.status.stable, "Undone", "WentBack", message, requested=s.target)[0]
    return (entry, *history)[:HISTORY_LIMIT]


def go_back(s: RolloutContext, reason: str, message: str, **facts: Any) -> Status:
    """Return the status at the start of a rollback."""
    return s.changed(
        phase=Phase.ROLLING_BACK,
        rollback=Rollback(reason=reason, message=message),
        pauses=(),
        progressed_at=s.now,
        progressed_replicas=0,
        **facts,
    )


def pause(s: RolloutContext, reason: PauseReason, message: str = "") -> Status:
    """Return the status in a pause for this reason; an existing pause for the same reason keeps its start time."""
    if s.status.phase is Phase.PAUSED and [p.reason for p in s.status.pauses] == [reason]:
        return s.status
    condition = PauseCondition(reason=str(reason), start_time=s.now, message=message)
    return s.changed(phase=Phase.PAUSED, pauses=(condition,))


def resume(s: RolloutContext) -> Status:
    """Return the status without a pause. A pause with a cause outside of the steps stops all timers."""
    is_promoting = s.status.phase is Phase.PROMOTING
    phase = Phase.PROMOTING if is_promoting else Phase.PROGRESSING
    return replace(_with_clocks_moved(s), phase=phase, pauses=())


def _with_clocks_moved(s: RolloutContext) -> Status:
    """Move the timers by the duration of the pause, unless the pause was part of the step."""
    status = s.status
    if status.phase is not Phase.PAUSED or not status.pauses:
        return status
    condition = status.pauses[0]
    held = s.since(condition.start_time)
    if not PauseReason(condition.reason).ends_with_its_cause:
        # A user continues the rollout: the progress deadline of the pods starts again.
        return replace(status, progressed_at=_moved(status.progressed_at, held))
    weights = status.weights
    if weights.programmed_at is None:
        weights = replace(weights, applied_at=_moved(weights.applied_at, held))
    return replace(
        status,
        step_started_at=_moved(status.step_started_at, held),
        progressed_at=_moved(status.progressed_at, held),
        endpoints_lost_at=_moved(status.endpoints_lost_at, held),
        weights=weights,
    )


def _moved(moment: datetime | None, held: timedelta) -> datetime | None:
    return None if moment is None else moment + held
