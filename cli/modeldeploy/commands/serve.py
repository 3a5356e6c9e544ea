"""`modeldeploy serve`: a model on one machine, without a cluster; new packages are judged before they answer anybody.

The model server does it (`python -m model_server edge`): this command translates its options and becomes that process.
"""

import importlib.util
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from modeldeploy.durations import parse_duration
from modeldeploy.requests import Refused
from modeldeploy.serving.options import ServeOptions
from modeldeploy.serving.unit import unit

#: Of a unit that is not told another one.
_KEEP = "/var/lib/modeldeploy"


def serve(
    uri: Annotated[str, typer.Argument(help="The package: a file or folder, or a URI such as s3://models/fraud.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free one.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: all of this machine.")] = "127.0.0.1",
    name: Annotated[str, typer.Option(help="The model's name in URLs and metrics.")] = "model",
    poll: Annotated[str, typer.Option(help="How often to look for another package at the URI; 0s: never.")] = "60s",
    keep: Annotated[
        Path | None,
        typer.Option(help="Folder for the package that serves, for a start without network.", show_default=False),
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="Load no package with another digest.", show_default=False)] = None,
    sign_key: Annotated[
        Path | None,
        typer.Option(help="Public key (PEM) that has to have signed each package.", show_default=False),
    ] = None,
    trusted: Annotated[
        bool, typer.Option("--trusted", help="Allow formats that run code when they are loaded, as a pickle does.")
    ] = False,
    judge_requests: Annotated[
        int,
        typer.Option(
            min=0,
            max=2000,
            help="Recent requests that a new package answers before it takes over; 0: it is not judged.",
        ),
    ] = 100,
    judge_time: Annotated[str, typer.Option(help="Time after which the requests that came by then decide.")] = "10m",
    min_agreement: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the requests that both packages have to answer alike.")
    ] = 0.9,
    tolerance: Annotated[float, typer.Option(min=0, help="Distance up to which two numbers are alike.")] = 0.0,
    max_failures: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the requests that only the new package may fail to answer.")
    ] = 0.0,
    max_latency_ratio: Annotated[
        float, typer.Option(min=1, help="Times as long that half of the new answers may take.")
    ] = 2.0,
    systemd: Annotated[
        bool, typer.Option("--systemd", help="Print a systemd unit that does this, and do nothing.")
    ] = False,
) -> None:
    """Serve a package on this machine, without a cluster, as a pod does.

    A new package at the URI is verified, loaded and warmed by a second server, which answers the requests that the
    first one was asked a moment ago. Then it takes over without a lost request, or is refused, which the log and
    /metrics say. Other settings of the server are variables (MODEL_SERVER_...). Ctrl-C ends it.
    """
    if importlib.util.find_spec("model_server") is None:
        raise Refused("serve needs the model server, which is not installed: pip install 'modeldeploy[server]'")
    options = ServeOptions(
        uri=_uri(uri),
        port=port,
        host=host,
        name=name,
        poll=_duration("--poll", poll),
        keep=_absolute(keep) or (_KEEP if systemd else ""),
        sha256=sha256 or "",
        sign_key=_absolute(sign_key),
        trusted=trusted,
        judge_requests=judge_requests,
        judge_time=_duration("--judge-time", judge_time),
        min_agreement=min_agreement,
        tolerance=tolerance,
        max_failures=max_failures,
        max_latency_ratio=max_latency_ratio,
    )
    if systemd:
        print(_unit(options), end="")
        return
    command = [sys.executable, "-P", "-m", "model_server", "edge", *options.supervisor_arguments()]
    os.execve(sys.executable, command, {**os.environ, **options.settings()})  # noqa: S606 - becomes the server


def _unit(options: ServeOptions) -> str:
    program = str(Path(sys.argv[0]).absolute())
    local = [options.uri.removeprefix("file://")] if options.uri.startswith("file://") else []
    return unit(
        [program, *options.own_arguments()],
        options.uri,
        keep=options.keep,
        port=options.port,
        read=[program, sys.executable, *local],
    )


def _uri(text: str) -> str:
    if "://" in text:
        return text
    path = Path(text).absolute()
    if not path.exists():
        raise Refused(f"{text} is no file or folder here; a URI has a scheme, as in s3://models/fraud")
    return path.as_uri()


def _absolute(path: Path | None) -> str:
    return "" if path is None else str(path.absolute())


def _duration(option: str, text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}") from None
