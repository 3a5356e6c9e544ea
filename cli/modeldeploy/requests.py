"""What a user may ask of a rollout, as merge patches. PURE; used by `commands/act.py`.

Commands that are no state are requests in annotations. A request names its revision (and, to promote, the step), the
time, so that the operator answers each one once, and the user, which the operator records. `kubectl annotate` does the
same.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modeldeploy.rollout import GROUP, Rollout

Patch = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the operator did about a request, or why it did nothing."""

    is_accepted: bool
    message: str


class NoAnswer(Exception):
    """The operator has not answered a request in time."""


class Refused(Exception):
    """There is nothing that the request could do; the message says why, and what would."""


def promote(rollout: Rollout, *, now: datetime, user: str = "") -> Patch:
    """Go on with the next step."""
    canary = _canary(rollout, "promote")
    return _token("promote", f"{canary}@{rollout.step_index}/{int(now.timestamp())}", user)


def answer_to(patch: Patch, status: Mapping[str, Any]) -> Answer | None:
    """Return the operator's answer to a request; None while there is none.

    Args:
        patch: the patch that made the request.
        status: `status` of the ModelDeployment.
    """
    ((annotation, value),) = patch["metadata"]["annotations"].items()
    answer = (status.get("requests") or {}).get(annotation.removeprefix(f"{GROUP}/")) or {}
    return Answer(answer["accepted"], answer["message"]) if answer.get("value") == value else None


def promote_full(rollout: Rollout, *, now: datetime, user: str = "") -> Patch:
    """Skip all steps that are left."""
    return _token("promote-full", _once(_canary(rollout, "promote"), now), user)


def abort(rollout: Rollout, *, now: datetime, user: str = "") -> Patch:
    """Take the new revision back."""
    return _token("abort", _once(_canary(rollout, "abort"), now), user)


def retry(rollout: Rollout, *, now: datetime, user: str = "") -> Patch:
    """Try the aborted revision again."""
    if not rollout.aborted:
        told = f"{rollout.name} is {rollout.phase}: no revision was aborted, so there is none to retry"
        again = f"; its pods try again by themselves, and modeldeploy refresh {rollout.name} starts new ones now"
        raise Refused(told + (again if rollout.failures else ""))
    return _token("retry", _once(rollout.aborted, now), user)


def undo(
    rollout: Rollout, to_revision: str | None, *, kept: Collection[str] | None, now: datetime, user: str = ""
) -> tuple[Patch, str]:
    """Go back to `to_revision`, by default the one that was live before; returns patch and revision.

    `kept` are the revisions that the cluster still has, None when that may not be asked.
    """
    if rollout.canary:
        raise Refused(f"{rollout.name} is rolling out {rollout.canary}: abort it instead")
    in_history = list(dict.fromkeys(past.revision for past in rollout.history if past.revision != rollout.stable))
    live = [past.revision for past in rollout.history if past.result == "Promoted" and past.revision != rollout.stable]
    if to_revision is None:
        if not live:
            raise Refused(f"{rollout.name} has no earlier revision that was live")
        to_revision = live[0]
    elif to_revision not in in_history:
        raise Refused(f"{rollout.name} has no revision {to_revision!r}; known are: {', '.join(in_history) or 'none'}")
    if kept is not None and to_revision not in kept:
        there = ", ".join(sorted(set(kept) - {rollout.stable})) or "none"
        gone = f"revision {to_revision} of {rollout.name} is no longer kept (spec.revisionHistoryLimit)"
        raise Refused(f"{gone}; kept are: {there}. Apply its manifest again instead")
    return _token("undo", _once(to_revision, now), user), to_revision


def pause(*, paused: bool) -> Patch:
    """Hold the rollout where it is, or let it go on."""
    return {"spec": {"paused": paused}}


def refresh(*, now: datetime) -> Patch:
    """Roll out the same spec again, with the current image and pod template of the operator."""
    return _token("refresh", str(int(now.timestamp())), user="")


def _canary(rollout: Rollout, verb: str) -> str:
    if not rollout.canary:
        again = f"; modeldeploy retry {rollout.name} tries {rollout.aborted} again" if rollout.aborted else ""
        raise Refused(f"{rollout.name} is {rollout.phase}: there is no rollout to {verb}{again}")
    return rollout.canary


def _once(revision: str, now: datetime) -> str:
    """A value that is new each time, since one that was acted upon is not acted upon again."""
    return f"{revision}@{int(now.timestamp())}"


def _token(name: str, value: str, user: str) -> Patch:
    by = f" by {user}" if user else ""
    return {"metadata": {"annotations": {f"{GROUP}/{name}": value + by}}}
