"""Commands that ask for something: promote, abort, retry, undo, pause, resume."""

from typing import Annotated

import typer

from modeldeploy import requests
from modeldeploy.commands.show import Name
from modeldeploy.kube import MODELDEPLOYMENTS
from modeldeploy.rollout import Rollout
from modeldeploy.session import Session


def promote(
    session: Session,
    name: Name,
    full: Annotated[bool, typer.Option("--full", help="Skip all steps that are left.")] = False,
) -> None:
    """Let a rollout go on with its next step, or all the way."""
    rollout = session.rollout(name)
    if full:
        _send(session, name, requests.promote_full(rollout, now=session.now()))
        _say(session, f"{name}: {rollout.canary} is to take all traffic{_once_resumed(rollout)}")
    else:
        _send(session, name, requests.promote(rollout))
        step = rollout.step or rollout.step_index
        _say(session, f"{name}: {rollout.canary} is to go on after step {step}{_once_resumed(rollout)}")


def abort(session: Session, name: Name) -> None:
    """Take the new revision back; the stable one keeps all traffic."""
    rollout = session.rollout(name)
    _send(session, name, requests.abort(rollout, now=session.now()))
    _say(session, f"{name}: {rollout.canary} is to be taken back")


def retry(session: Session, name: Name) -> None:
    """Try the revision again that was aborted."""
    rollout = session.rollout(name)
    _send(session, name, requests.retry(rollout, now=session.now()))
    _say(session, f"{name}: {rollout.aborted} is to be tried again")


def undo(
    session: Session,
    name: Name,
    to_revision: Annotated[
        str | None,
        typer.Option(help="An earlier revision, as `modeldeploy history` shows it.", show_default=False),
    ] = None,
) -> None:
    """Go back to the revision that was live before."""
    kept = session.kept_revisions(name)
    patch, revision = requests.undo(session.rollout(name), to_revision, kept=kept, now=session.now())
    _send(session, name, patch)
    _say(session, f"{name}: back to {revision}")


def pause(session: Session, name: Name) -> None:
    """Hold a rollout where it is."""
    _hold(session, name, paused=True)


def resume(session: Session, name: Name) -> None:
    """Let a rollout go on that was held by `pause`."""
    _hold(session, name, paused=False)


def _hold(session: Session, name: str, *, paused: bool) -> None:
    already = session.rollout(name).is_paused == paused
    _send(session, name, requests.pause(paused=paused))
    state = "paused" if paused else "not paused"
    _say(session, f"{name}: {'was' if already else 'is'} {state}{' already' if already else ''}")


def _once_resumed(rollout: Rollout) -> str:
    return f", once it is resumed: modeldeploy resume {rollout.name}" if rollout.is_paused else ""


def _send(session: Session, name: str, patch: requests.Patch) -> None:
    session.kube.merge(MODELDEPLOYMENTS, name, patch, session.namespace)


def _say(session: Session, text: str) -> None:
    session.console.print(text, markup=False, highlight=False)
