"""`modeldeploy batch`: how batches stand, and one until its end."""

import sys
import time
from typing import Annotated

import typer
from rich.live import Live
from rich.text import Text

from modeldeploy.batches import Batch, batches_of, line_of
from modeldeploy.commands.show import STATUS_OF
from modeldeploy.durations import parse_duration
from modeldeploy.patience import look_again
from modeldeploy.rollout import Verdict
from modeldeploy.session import Session

_SOON = 0.5


def batch(
    session: Session,
    name: Annotated[str | None, typer.Argument(help="Only this one.", metavar="NAME", show_default=False)] = None,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Those of all namespaces.")] = False,
    wait: Annotated[bool, typer.Option(help="Show the progress until the batch is over.")] = False,
    timeout: Annotated[str, typer.Option(help="Longest wait, as in 90s or 24h.")] = "24h",
) -> None:
    """Show ModelBatches; with a name, tell by the exit status how one stands: 0 complete, 1 failed, 2 not over.

    A batch with a schedule never ends: its runs are batches of their own, which it lists.
    """
    if name is None:
        if wait:
            raise typer.BadParameter("--wait needs the NAME of a batch")
        _list(session, everywhere=all_namespaces)
        return
    if all_namespaces:
        raise typer.BadParameter("a name is one of a namespace: leave NAME or --all-namespaces out")
    try:
        patience = parse_duration(timeout).total_seconds() if wait else 0.0
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    raise typer.Exit(STATUS_OF[_follow(session, name, patience).verdict])


def _list(session: Session, *, everywhere: bool) -> None:
    found = session.batches(everywhere=everywhere)
    if not found:
        where = "any namespace" if everywhere else f"namespace {session.namespace}"
        print(f"no ModelBatches in {where}", file=sys.stderr)
        return
    session.show(batches_of(found, with_namespace=everywhere))


def _follow(session: Session, name: str, patience: float) -> Batch:
    """Print how a batch stands, again and again until it is over or time is: in place on a terminal, else by lines."""
    deadline, said = time.monotonic() + patience, ""
    found = session.batch(name)
    with Live(console=session.console, auto_refresh=False) as live:
        while True:
            line = line_of(found)
            if session.console.is_terminal:
                live.update(Text(line), refresh=True)
            elif line != said:
                session.console.print(line, markup=False, highlight=False)
                said = line
            if found.verdict is not Verdict.WAITING or time.monotonic() >= deadline:
                return found
            time.sleep(_SOON)
            found = look_again(lambda: session.batch(name), pause=_SOON, longest=deadline - time.monotonic())
