"""`modeldeploy pool`: how pools stand, and what the pods of one have in memory."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.text import Text

from modeldeploy.commands.show import STATUS_OF
from modeldeploy.plain import plain
from modeldeploy.pools import line_of, models_of, models_table, pods_table, pools_table
from modeldeploy.session import Session


def pool(
    session: Session,
    name: Annotated[str | None, typer.Argument(help="Only this one.", metavar="NAME", show_default=False)] = None,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Those of all namespaces.")] = False,
    models: Annotated[bool, typer.Option(help="A line for each model, with the pods that have it.")] = False,
) -> None:
    """Show ModelPools; with a name, its pods with their memory, hits and evictions, and the models that failed.

    The exit status tells how one stands: 0 ready, 1 degraded, 2 not ready yet. The pods are asked through the API
    server, which needs the right to get pods/proxy.
    """
    if name is None:
        if models:
            raise typer.BadParameter("--models needs the NAME of a pool")
        _list(session, everywhere=all_namespaces)
        return
    if all_namespaces:
        raise typer.BadParameter("a name is one of a namespace: leave NAME or --all-namespaces out")
    found = session.pool(name)
    session.console.print(line_of(found), markup=False, highlight=False, soft_wrap=True)
    if models:
        _show_models(session, name)
    else:
        _show_pods(session, name)
        for model, reason in found.failures:
            session.console.print(Text(f"failed: {model}: {reason}"), soft_wrap=True)
    raise typer.Exit(STATUS_OF[found.verdict])


def _list(session: Session, *, everywhere: bool) -> None:
    found = session.pools(everywhere=everywhere)
    if not found:
        where = "any namespace" if everywhere else f"namespace {session.namespace}"
        print(f"no ModelPools in {where}", file=sys.stderr)
        return
    session.show(pools_table(found, with_namespace=everywhere))


def _show_pods(session: Session, name: str) -> None:
    from modeldeploy.dashboard.pooled import states_of

    states, problems = states_of(_asked(session, name, "/pool"))
    for problem in problems:
        print(problem, file=sys.stderr)
    if states:
        session.show(pods_table(states))


def _show_models(session: Session, name: str) -> None:
    answers = _asked(session, name, "/pool/models")
    try:
        found = models_of(answers)
    except ValueError as error:
        print(error, file=sys.stderr)
        return
    if found:
        session.show(models_table(found, len(answers)))


def _asked(session: Session, name: str, path: str) -> Mapping[str, Any]:
    """What each ready pod answers, by its name; why one does not is told beside."""
    from modeldeploy.dashboard.pooled import ask_pods, pods_of
    from modeldeploy.dashboard.reaching import ThroughApiServer

    pods = pods_of(session.kube, session.namespace, name)
    answers, problems = ask_pods(ThroughApiServer(session.kube), pods, path)
    for problem in problems:
        print(plain(problem), file=sys.stderr)
    return answers
