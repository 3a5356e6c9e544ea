"""`modeldeploy pool`: how pools stand, and what the pods of one have in memory."""

import json
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from modeldeploy.commands.show import STATUS_OF
from modeldeploy.pools import PoolPod, line_of, models_of, models_table, pods_table, pools_table
from modeldeploy.session import Session

if TYPE_CHECKING:
    from modeldeploy.dashboard.view.pods import Pod

#: Pods that are asked, and at once.
_MOST_PODS, _AT_ONCE = 64, 8


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
    answers = _asked(session, name, "/pool")
    pods = []
    for pod, answer in answers.items():
        try:
            pods.append(PoolPod.from_answer(pod, answer))
        except ValueError as error:
            print(error, file=sys.stderr)
    if pods:
        session.show(pods_table(pods))


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
    from modeldeploy.dashboard.reaching import PodSilent, ThroughApiServer
    from modeldeploy.dashboard.view.pods import Pod

    reader = ThroughApiServer(session.kube)
    pods = [pod for pod in map(Pod.from_body, session.pool_pods(name)) if pod.is_ready][:_MOST_PODS]

    def ask(pod: "Pod") -> Any:
        try:
            return json.loads(reader.read(pod, path, {}))
        except (PodSilent, ValueError, RecursionError) as error:
            return PodSilent(f"{pod.name} is not shown: {error}")

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        answers = dict(zip((pod.name for pod in pods), threads.map(ask, pods), strict=True))
    for said in dict.fromkeys(str(answer) for answer in answers.values() if isinstance(answer, PodSilent)):
        print(said, file=sys.stderr)
    return {pod: answer for pod, answer in answers.items() if not isinstance(answer, PodSilent)}
