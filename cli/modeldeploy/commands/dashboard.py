"""`modeldeploy dashboard`: all models as a page that follows what happens."""

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from modeldeploy.commands.fleet import read_rates
from modeldeploy.durations import parse_duration
from modeldeploy.requests import Refused
from modeldeploy.session import Session

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def dashboard(
    session: Session,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Those of all namespaces.")] = False,
    namespaces: Annotated[
        str | None, typer.Option(help="Those of several namespaces, separated by commas.", show_default=False)
    ] = None,
    interval: Annotated[str, typer.Option(help="How often pods are asked for what they have counted.")] = "15s",
    port: Annotated[int, typer.Option(help="Port to listen on; default is a free one.", show_default=False)] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    rates: Annotated[
        Path | None,
        typer.Option(help="YAML with prices, as `fleet` takes it, for the page of the fleet.", show_default=False),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    shared: Annotated[
        bool,
        typer.Option(
            "--shared", help="Serve several users in a cluster: read-only, but for requests that bring a bearer token."
        ),
    ] = False,
) -> None:
    """Serve a page of all models that follows what happens, with promote, abort and the others as buttons.

    It listens on loopback, reads with your kubeconfig, and does nothing that you may not do. The link that it prints
    has a token in it, without which it answers nobody. Ctrl-C ends it.
    """
    try:
        from modeldeploy.dashboard.serve import Options, run
    except ModuleNotFoundError as error:
        missing = f"the dashboard needs {error.name}, which is not installed: pip install 'modeldeploy[dashboard]'"
        raise Refused(missing) from error
    if all_namespaces and namespaces:
        raise typer.BadParameter("give either --all-namespaces or --namespaces")
    if host not in _LOOPBACK and not shared:
        raise typer.BadParameter(f"{host} is reachable by others: add --shared, so that nobody acts with your rights")
    chosen = [one.strip() for one in (namespaces or "").split(",") if one.strip()]
    try:
        seconds = parse_duration(interval).total_seconds()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if seconds < 1:
        raise typer.BadParameter(f"--interval has to be 1s or more, not {interval}")
    options = Options(
        namespaces=() if all_namespaces else chosen or (session.namespace,),
        host=host,
        port=port,
        is_shared=shared,
        interval=seconds,
        rates=read_rates(rates) if rates is not None else None,
    )

    def announce(address: str) -> None:
        print(f"The dashboard is at {address}", flush=True)
        if browser and not shared and sys.stdout.isatty():
            webbrowser.open(address)

    run(session.kube, options, announce)
