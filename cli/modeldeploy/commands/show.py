"""Commands that look: get, history, status, watch."""

import sys
import time
from typing import Annotated

import typer
from rich.live import Live
from rich.tree import Tree

from modeldeploy.durations import parse_duration
from modeldeploy.patience import look_again
from modeldeploy.rollout import Rollout, Verdict
from modeldeploy.session import Session
from modeldeploy.view import history_of, line_of, table_of, tree_of

Name = Annotated[str, typer.Argument(help="Name of the ModelDeployment.", metavar="NAME", show_default=False)]

#: Seconds between two requests of a command that waits.
_SOON = 0.5
#: Seconds that a watch waits for an API server that went away.
_PATIENCE = 60.0

#: Exit statuses of `modeldeploy status`.
STATUS_OF = {Verdict.HEALTHY: 0, Verdict.FAILED: 1, Verdict.WAITING: 2}


def get(
    session: Session,
    name: Annotated[str | None, typer.Argument(help="Only this one.", metavar="NAME", show_default=False)] = None,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Those of all namespaces.")] = False,
) -> None:
    """Show the ModelDeployments of the namespace."""
    if name is not None and all_namespaces:
        raise typer.BadParameter("a name is one of a namespace: leave NAME or --all-namespaces out")
    rollouts = session.rollouts(everywhere=all_namespaces) if name is None else [session.rollout(name)]
    if not rollouts:
        where = "any namespace" if all_namespaces else f"namespace {session.namespace}"
        print(f"no ModelDeployments in {where}", file=sys.stderr)
        return
    session.show(table_of(rollouts, with_namespace=all_namespaces))


def history(session: Session, name: Name) -> None:
    """Show how the rollouts of a ModelDeployment ended, newest first."""
    rollout = session.rollout(name)
    if not rollout.history:
        print(f"{name} has no history yet: no rollout of it has ended", file=sys.stderr)
        return
    session.show(history_of(rollout))


def status(
    session: Session,
    name: Name,
    wait: Annotated[bool, typer.Option(help="Wait until the rollout is over.")] = False,
    timeout: Annotated[str, typer.Option(help="Longest wait, as in 90s or 10m.")] = "10m",
) -> None:
    """Tell by the exit status how a rollout stands: 0 healthy, 1 failed, 2 not over (in time)."""
    patience = _duration(timeout)
    deadline = time.monotonic() + patience
    rollout = session.rollout(name)
    said = ""
    while True:
        line = line_of(rollout)
        if line != said:
            session.console.print(line, markup=False, highlight=False)
            said = line
        if not wait or rollout.verdict is not Verdict.WAITING or time.monotonic() > deadline:
            break
        time.sleep(_SOON)
        rollout = look_again(lambda: session.rollout(name), pause=_SOON, longest=deadline - time.monotonic())
    _tell_failures(session, rollout)
    raise typer.Exit(STATUS_OF[rollout.verdict])


def watch(
    session: Session,
    name: Name,
    interval: Annotated[str, typer.Option(help="How often to look.")] = "1s",
    events: Annotated[int, typer.Option(min=0, max=50, help="How many of the last events to show.")] = 5,
    until_over: Annotated[bool, typer.Option("--until-over", help="End when the rollout is over.")] = False,
) -> None:
    """Follow a rollout live: revisions, pods, weights, step, time left, events. Ctrl-C ends it."""
    pause = _duration(interval)
    if not pause:
        raise typer.BadParameter("--interval must be longer than nothing, as in 1s")
    if session.console.is_terminal:
        _watch_live(session, name, pause, events, until_over)
    else:
        _watch_lines(session, name, pause, until_over)


def _watch_live(session: Session, name: str, pause: float, events: int, until_over: bool) -> None:
    def look() -> tuple[Rollout, Tree]:
        rollout = session.rollout(name)
        return rollout, tree_of(rollout, session.pods(name), session.events(name, events), now=session.now())

    with Live(console=session.console, auto_refresh=False) as live:
        rollout, tree = look()
        while True:
            live.update(tree, refresh=True)
            if until_over and rollout.verdict is not Verdict.WAITING:
                return
            time.sleep(pause)
            rollout, tree = look_again(look, pause=_SOON, longest=_PATIENCE)


def _watch_lines(session: Session, name: str, pause: float, until_over: bool) -> None:
    said, rollout = "", session.rollout(name)
    while True:
        line = line_of(rollout)
        if line != said:
            session.console.print(line, markup=False, highlight=False)
            said = line
        if until_over and rollout.verdict is not Verdict.WAITING:
            return
        time.sleep(pause)
        rollout = look_again(lambda: session.rollout(name), pause=_SOON, longest=_PATIENCE)


def _tell_failures(session: Session, rollout: Rollout) -> None:
    for failure in rollout.other_failures:
        line = f"  {failure.revision}: {failure.reason}: {failure.message}"
        session.console.print(line, markup=False, highlight=False)


def _duration(text: str) -> float:
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
