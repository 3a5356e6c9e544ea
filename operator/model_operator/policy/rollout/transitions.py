"""The transitions that several rules share: beginning a rollout, going back, remembering how it ended."""

from collections.abc import Mapping
from typing import Any

from model_operator.api.status import HistoryEntry, Mode, PauseCondition, Phase, Rollback, Status, Weights
from model_operator.api.values import replace
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.rollout.replica_counts import full_size

#: Entries of `status.history`.
HISTORY_LIMIT = 20


def begin(s: RolloutContext, *, tokens: Mapping[str, str] | None = None, **facts: Any) -> Status:
    """Return the status at the start of the rollout of the spec's revision."""
    status = s.changed(
        phase=Phase.PROGRESSING,
        canary=s.target,
        aborted="",
        previous="",
        rollback=None,
        mode=mode_of(s),
        step_index=0,
        step_started_at=s.now,
        rollout_started_at=s.now,
        # A rollout that takes the place of another one finds stable smaller than it was.
        rollout_replicas=s.status.rollout_replicas or (full_size(s) if s.spec.autoscaling else 0),
        progressed_at=s.now,
        endpoints_lost_at=None,
        drain_started_at=None,
        weights=Weights(),
        pauses=(),
        analysis=None,
        evaluation=None,
        pod_failures=(),
        # What was said of another revision's model says nothing of this one's.
        conditions=tuple(c for c in s.status.conditions if c.type != "ModelLoaded"),
        handled_tokens=s.status.handled_tokens if tokens is None else tokens,
        **facts,
    )
    return replace(status, steps_hash=s.under(status).steps_hash)


def mode_of(s: RolloutContext) -> Mode:
    """Back to what was live before goes fast; a broken stable must not block its own mending."""
    was_live = any(entry.revision == s.target and entry.result == "Promoted" for entry in s.status.history)
    if was_live and s.observed.revision(s.target).source is not None:
        return Mode.FAST
    stable = s.stable_view
    if stable.available == 0 and stable.problems and full_size(s) > 0:
        return Mode.RESCUE
    return Mode.STEPS


def remember(s: RolloutContext, revision: str, result: str, reason: str, message: str = "") -> tuple[HistoryEntry, ...]:
    """Return the history with one more entry in front, at most as many as `HISTORY_LIMIT`."""
    view = s.observed.revision(revision)
    model = (view.source or {}).get("model", {})
    entry = HistoryEntry(
        revision=revision,
        result=result,
        reason=reason,
        message=message,
        at=s.now,
        version=view.model.version if view.model else model.get("version", ""),
        uri=model.get("storageUri", ""),
        sha256=view.model.sha256 if view.model else model.get("sha256", ""),
    )
    return (entry, *s.status.history)[:HISTORY_LIMIT]


def go_back(s: RolloutContext, reason: str, message: str, **facts: Any) -> Status:
    """Return the status at the start of a rollback."""
    return s.changed(
        phase=Phase.ROLLING_BACK,
        rollback=Rollback(reason=reason, message=message),
        pauses=(),
        progressed_at=s.now,
        **facts,
    )


def pause(s: RolloutContext, reason: str) -> Status:
    """Return the status in a pause for this reason; the clock of one that is on goes on."""
    if s.status.phase is Phase.PAUSED and [p.reason for p in s.status.pauses] == [reason]:
        return s.status
    return s.changed(phase=Phase.PAUSED, pauses=(PauseCondition(reason=reason, start_time=s.now),))


def resume(s: RolloutContext) -> Status:
    """Return the status without a pause."""
    is_promoting = s.status.phase is Phase.PROMOTING
    return s.changed(phase=Phase.PROMOTING if is_promoting else Phase.PROGRESSING, pauses=())
