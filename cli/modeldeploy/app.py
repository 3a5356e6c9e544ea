"""Puts the command line together. `__main__.py` runs it; `docs/generate.py` writes docs/cli.md from it."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from modeldeploy.commands import act, show
from modeldeploy.commands.lint import lint
from modeldeploy.commands.package import package
from modeldeploy.commands.report import report
from modeldeploy.kube import Kube
from modeldeploy.session import Session

_NO_CLUSTER = ("lint", "package")
_WIDE = 400


def build() -> typer.Typer:
    """The application with all its commands."""
    app = typer.Typer(
        name="modeldeploy",
        help="Work with ModelDeployments. As a kubectl plugin: kubectl modeldeploy ...",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(connect)
    for command in (
        show.get,
        show.watch,
        show.status,
        show.history,
        report,
        act.promote,
        act.abort,
        act.retry,
        act.undo,
        act.pause,
        act.resume,
        lint,
        package,
    ):
        app.command()(command)
    return app


def connect(
    context: typer.Context,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Default is $KUBECONFIG, then ~/.kube/config.", show_default=False)
    ] = None,
    kube_context: Annotated[
        str | None, typer.Option("--context", help="Context of the kubeconfig.", show_default=False)
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="Default is the context's own.", show_default=False),
    ] = None,
) -> None:
    """Connect to the cluster, for the commands that need one."""
    if context.invoked_subcommand in _NO_CLUSTER:
        return
    kube = Kube.connect(kubeconfig, kube_context)
    context.call_on_close(kube.close)
    # Elsewhere than on a terminal lines are for grep, and not to be folded.
    console = Console() if sys.stdout.isatty() else Console(width=_WIDE)
    context.obj = Session(kube, namespace or kube.namespace, console)
