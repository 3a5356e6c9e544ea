"""Which requests make sense now, and what each would do: the buttons and their confirmations. PURE.

The patches themselves are those of the command line (`modeldeploy.requests`).
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from modeldeploy import requests
from modeldeploy.dashboard.view.steps import title_of
from modeldeploy.requests import Patch, Refused
from modeldeploy.rollout import Rollout

VERBS = ("promote", "promote-full", "abort", "retry", "undo", "pause", "resume", "refresh")
#: Requests that the operator answers in `status.requests`.
ANSWERED = frozenset({"promote", "promote-full", "abort", "retry", "undo"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One button. `state` is the rollout's that the confirmation describes; `is_primary` is the usual next one."""

    verb: str
    label: str
    title: str
    consequence: str
    state: str
    is_primary: bool = False
    is_dangerous: bool = False


class Moved(Exception):
    """The rollout is no longer where the confirmation said; the message says where it is."""


def actions_of(rollout: Rollout) -> list[Action]:
    """Return the requests that can do something now, the usual one first."""
    return list(_of_rollout(rollout) if rollout.canary else _at_rest(rollout))


def state_of(rollout: Rollout) -> str:
    """Return a text that changes when what a confirmation says is no longer true."""
    return f"{rollout.stable}/{rollout.canary}@{rollout.step_index}/{rollout.aborted}/{rollout.is_paused:d}"


def patch_of(
    verb: str,
    rollout: Rollout,
    *,
    state: str,
    revision: str,
    kept: Collection[str] | None,
    now: datetime,
    user: str = "",
) -> Patch:
    """Return the patch of a request.

    Args:
        state: `Action.state` of the confirmation, "" for none.
        revision: the revision that `undo` leads to, "" for the one that was live before.
        kept: revisions that the cluster still has, None where that may not be read.
        user: who makes the request, "" where the API server does not say.

    Raises:
        Moved: the rollout has moved on since the confirmation was shown.
        Refused: there is nothing that the request could do.
    """
    if state and state != state_of(rollout):
        raise Moved(f"{rollout.name} has changed since: it is {rollout.phase} now. {rollout.message}".strip())
    match verb:
        case "promote":
            return requests.promote(rollout, now=now, user=user)
        case "promote-full":
            return requests.promote_full(rollout, now=now, user=user)
        case "abort":
            return requests.abort(rollout, now=now, user=user)
        case "retry":
            return requests.retry(rollout, now=now, user=user)
        case "undo":
            return requests.undo(rollout, revision or None, kept=kept, now=now, user=user)[0]
        case "pause" | "resume":
            return requests.pause(paused=verb == "pause")
        case "refresh":
            return requests.refresh(now=now)
    raise Refused(f"{verb!r} is no action; known are: {', '.join(VERBS)}")


def _of_rollout(rollout: Rollout) -> Iterator[Action]:
    canary, stable, state = rollout.canary, rollout.stable, state_of(rollout)
    can_go_on = rollout.phase == "Paused" and not rollout.is_paused
    if rollout.is_paused:
        yield _resume(rollout)
    if can_go_on:
        yield Action(
            verb="promote",
            label="Promote",
            title=f"Promote {rollout.name} to the next step?",
            consequence=f"The pause ends. {_next(rollout)}",
            state=state,
            is_primary=True,
        )
    if rollout.phase not in ("RollingBack", "Promoting") and not rollout.is_paused:
        yield Action(
            verb="promote-full",
            label="Promote fully",
            title=f"Promote {rollout.name} to all traffic?",
            consequence=(
                f"The remaining steps are skipped. Revision {canary} takes all the traffic"
                + (f", and {stable} leaves when it has no more requests." if stable else ".")
                + " The analysis no longer decides."
            ),
            state=state,
        )
    if rollout.phase != "RollingBack":
        yield Action(
            verb="abort",
            label="Abort",
            title=f"Abort the rollout of {rollout.name}?",
            consequence=(
                f"Revision {canary} is taken back, and {stable or 'nothing'} keeps all the traffic. "
                f"{canary} is not tried again until the spec changes or you retry it."
            ),
            state=state,
            is_dangerous=True,
        )
    if not rollout.is_paused:
        yield Action(
            verb="pause",
            label="Pause",
            title=f"Pause {rollout.name}?",
            consequence=(
                f"The rollout stays where it is, with {rollout.weight} % of the traffic on {canary}, until you resume "
                "it. This sets spec.paused; a GitOps tool may set it back."
            ),
            state=state,
        )


def _at_rest(rollout: Rollout) -> Iterator[Action]:
    state = state_of(rollout)
    if rollout.is_paused:
        yield _resume(rollout)
    if rollout.aborted:
        yield Action(
            verb="retry",
            label="Retry",
            title=f"Try revision {rollout.aborted} of {rollout.name} again?",
            consequence=(
                f"A new rollout of {rollout.aborted} begins with its first step. {rollout.stable} keeps serving."
            ),
            state=state,
            is_primary=True,
        )
    back = next(
        (past for past in rollout.history if past.result == "Promoted" and past.revision != rollout.stable), None
    )
    if back is not None:
        yield undo_action(rollout, back.revision)
    if rollout.stable:
        yield Action(
            verb="refresh",
            label="Refresh",
            title=f"Roll out {rollout.name} again?",
            consequence=(
                "A new revision of the same spec is made, with the current server image and pod template, and rolled "
                f"out by the strategy. {rollout.stable} serves meanwhile."
            ),
            state=state,
        )


def undo_action(rollout: Rollout, revision: str) -> Action:
    """Return the request to go back to a revision."""
    past = next((one for one in rollout.history if one.revision == revision), None)
    version = f" (version {past.version})" if past and past.version else ""
    return Action(
        verb="undo",
        label="Undo",
        title=f"Go back to revision {revision} of {rollout.name}?",
        consequence=(
            f"The model and server of {revision}{version} are written into the spec, and it takes all the traffic from "
            f"{rollout.stable} without steps, as it was live before. A GitOps tool may write the spec back."
        ),
        state=state_of(rollout),
        is_dangerous=True,
    )


def _resume(rollout: Rollout) -> Action:
    what = "The rollout goes on" if rollout.canary else "The next change of the spec starts a rollout"
    return Action(
        verb="resume",
        label="Resume",
        title=f"Resume {rollout.name}?",
        consequence=f"{what}. This sets spec.paused to false.",
        state=state_of(rollout),
        is_primary=True,
    )


def _next(rollout: Rollout) -> str:
    following = rollout.step_index + 1
    if following >= len(rollout.steps):
        return f"Revision {rollout.canary} takes all the traffic, and {rollout.stable} leaves."
    title = title_of(rollout.steps[following])
    return f"The rollout goes on with step {following + 1} of {len(rollout.steps)}: {title[:1].lower()}{title[1:]}."
