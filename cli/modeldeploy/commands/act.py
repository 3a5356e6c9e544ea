"""Commands that ask for something: promote, abort, retry, undo, refresh, pause, resume."""

from typing import Annotated

import typer

from modeldeploy import asking, requests
from modeldeploy.commands.show import Name
from modeldeploy.session import Session

Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until the operator has answered, ten seconds at most.")
]
#: Seconds that the operator has for its answer.
ANSWER_TIMEOUT = asking.ANSWER_TIMEOUT


def promote(
    session: Session,
    name: Name,
    full: Annotated[bool, typer.Option("--full", help="Skip all steps that are left.")] = False,
    wait: Wait = True,
) -> None:
    """Let a rollout go on with its next step, or all the way."""
    rollout = session.rollout(name)
    ask = requests.promote_full if full else requests.promote
    _request(session, name, ask(rollout, now=session.now(), user=session.user()), wait=wait)


def abort(session: Session, name: Name, wait: Wait = True) -> None:
    """Take the new revision back; the stable one keeps all traffic."""
    _request(session, name, requests.abort(session.rollout(name), now=session.now(), user=session.user()), wait=wait)


def retry(session: Session, name: Name, wait: Wait = True) -> None:
    """Try the revision again that was aborted."""
    _request(session, name, requests.retry(session.rollout(name), now=session.now(), user=session.user()), wait=wait)


def undo(
    session: Session,
    name: Name,
    to_revision: Annotated[
        str | None,
        typer.Option(help="An earlier revision, as `modeldeploy history` shows it.", show_default=False),
    ] = None,
    wait: Wait = True,
) -> None:
    """Go back to the revision that was live before."""
    kept = session.kept_revisions(name)
    patch, _ = requests.undo(session.rollout(name), to_revision, kept=kept, now=session.now(), user=session.user())
    _request(session, name, patch, wait=wait)


def refresh(session: Session, name: Name) -> None:
    """Roll out the same spec again, with the operator's current image and pod template, and the model fetched anew."""
    session.rollout(name)
    asking.write(session, name, requests.refresh(now=session.now()))
    _say(session, f"{name}: a new revision of the same spec is rolled out")


def pause(session: Session, name: Name) -> None:
    """Hold a rollout where it is."""
    _hold(session, name, paused=True)


def resume(session: Session, name: Name) -> None:
    """Let a rollout go on that was held by `pause`."""
    _hold(session, name, paused=False)


def _hold(session: Session, name: str, *, paused: bool) -> None:
    already = session.rollout(name).is_paused == paused
    asking.write(session, name, requests.pause(paused=paused))
    state = "paused" if paused else "not paused"
    _say(session, f"{name}: {'was' if already else 'is'} {state}{' already' if already else ''}")


def _request(session: Session, name: str, patch: requests.Patch, *, wait: bool) -> None:
    """Write a request, and show what the operator answers. Raises `Refused`, `NoAnswer`."""
    if not wait:
        asking.write(session, name, patch)
        _say(session, f"{name}: requested")
        return
    _say(session, f"{name}: {asking.ask(session, name, patch, timeout=ANSWER_TIMEOUT)}")


def _say(session: Session, text: str) -> None:
    session.console.print(text, markup=False, highlight=False)
