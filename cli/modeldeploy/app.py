"""Puts the command line together. `__main__.py` runs it; `docs/generate.py` writes docs/cli.md from it."""

import inspect
from collections.abc import Callable

import typer

from modeldeploy.commands import act, show
from modeldeploy.commands.bake import bake
from modeldeploy.commands.batch import batch
from modeldeploy.commands.bom import bom
from modeldeploy.commands.dashboard import dashboard
from modeldeploy.commands.diff import diff
from modeldeploy.commands.fleet import fleet
from modeldeploy.commands.importing import import_
from modeldeploy.commands.keda import keda
from modeldeploy.commands.labels import labels
from modeldeploy.commands.lint import lint
from modeldeploy.commands.outdated import outdated
from modeldeploy.commands.package import package
from modeldeploy.commands.pool import pool
from modeldeploy.commands.report import report
from modeldeploy.commands.serve import serve
from modeldeploy.connection import chosen_first, connected

_ON_A_CLUSTER: tuple[Callable[..., None], ...] = (
    show.get,
    show.watch,
    show.status,
    show.history,
    diff,
    outdated,
    fleet,
    batch,
    pool,
    report,
    labels,
    keda,
    dashboard,
    act.promote,
    act.abort,
    act.retry,
    act.undo,
    act.refresh,
    act.pause,
    act.resume,
)
_OFFLINE: tuple[Callable[..., None], ...] = (lint, package, bake, bom, import_, serve)


def build() -> typer.Typer:
    """The application with all its commands."""
    app = typer.Typer(
        name="modeldeploy",
        help="Work with ModelDeployments. As a kubectl plugin: kubectl modeldeploy ...",
        invoke_without_command=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(chosen_first)
    for command in (*map(connected, _ON_A_CLUSTER), *_OFFLINE):
        # A word of Python's, as import is, cannot be the name of a function.
        app.command(command.__name__.rstrip("_"), help=_help_of(command))(command)
    return app


def _help_of(command: Callable[..., None]) -> str:
    """The docstring with a line for each paragraph: a terminal has another width than the source."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
