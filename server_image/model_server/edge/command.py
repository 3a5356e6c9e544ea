"""`python -m model_server edge`: what `modeldeploy serve` runs. Settings are the server's own, from the environment."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from model_server.edge.comparison import Judgement
from model_server.edge.judging import Limits
from model_server.edge.packages import PackageStore
from model_server.edge.server_process import ServerEnded
from model_server.edge.supervisor import Supervisor
from model_server.errors import SettingsInvalid, StartError
from model_server.logs import configure
from model_server.settings import PREFIX, Settings, read_settings
from model_server.sockets import listen
from model_server.termination import EX_SOFTWARE, exit_code

log = logging.getLogger(__name__)

#: Unless it is set: connections are kept open by clients, and no endpoint of Kubernetes leads them away.
DRAIN_SECONDS = "5"
#: As many as a server keeps, see `monitoring/request_log.py`, which would bring NumPy into this process.
MOST_REQUESTS = 2_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 0 after a drain, else the exit code of the first server that could not start."""
    options = _parser().parse_args(arguments)
    configure("info", {})
    try:
        environ = {f"{PREFIX}DRAIN_SECONDS": DRAIN_SECONDS, **os.environ}
        settings = read_settings(environ)
        _check(settings)
        configure(settings.log_level, {"model": settings.name})
        with (
            _folder(options.keep) as folder,
            listen(settings) as listener,
            closing(PackageStore(folder, settings.storage_uri, environ, is_signed=settings.is_signed)) as packages,
        ):
            log.info("listening", extra={"host": settings.host, "port": listener.getsockname()[1]})
            judgement = _judgement(options, settings)
            asyncio.run(_run(Supervisor(options.poll, judgement, settings, environ, packages, listener)))
    except StartError as error:
        log.error("%s: %s", error.reason, error.message, extra={"hint": error.hint})
        print(f"error: {error.message}. {error.hint}".strip(), file=sys.stderr)
        return exit_code(error)
    except ServerEnded as error:
        log.error("the package cannot be served: %s", error)
        print(f"error: {error}", file=sys.stderr)
        return error.code if error.code > 0 else EX_SOFTWARE
    log.info("stopped")
    return 0


async def _run(supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)
    await supervisor.run()


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="modeldeploy-serve-") as temporary:
        yield Path(temporary)


def _judgement(options: argparse.Namespace, settings: Settings) -> Judgement:
    return Judgement(
        requests=options.judge_requests,
        seconds=options.judge_seconds,
        workers=settings.workers,
        limits=Limits(
            min_agreement=options.min_agreement,
            max_failures=options.max_failures,
            max_latency_ratio=options.max_latency_ratio,
            tolerance=options.tolerance,
        ),
    )


def _check(settings: Settings) -> None:
    """Raise SettingsInvalid for what two servers of one machine cannot have at the same time."""
    alone: Mapping[str, object] = {
        "GRPC_PORT": settings.grpc_port,
        "STREAM_URL": settings.stream_url,
        "SHADOW_PORT": settings.shadow_port,
    }
    for name, value in alone.items():
        if value:
            raise SettingsInvalid(
                f"{PREFIX}{name} cannot be set for `modeldeploy serve`",
                hint="The old server and the new one run side by side, and share the port of HTTP alone.",
            )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="model_server edge", description="Serve one URI on one machine.")
    parser.add_argument("--poll", type=float, default=60, help="seconds between looks at the URI; 0: none")
    parser.add_argument("--keep", type=Path, help="folder for the package that serves; default: a temporary one")
    parser.add_argument("--judge-requests", type=_requests, default=100, help="requests to judge a package by; 0: none")
    parser.add_argument("--judge-seconds", type=float, default=600, help="then those that there are decide")
    parser.add_argument("--min-agreement", type=_share, default=0.9, help="share of answers that are alike")
    parser.add_argument(
        "--max-failures", type=_share, default=0, help="share of requests that the new one may not answer"
    )
    parser.add_argument(
        "--max-latency-ratio", type=float, default=2, help="times as long that half of the answers may take"
    )
    parser.add_argument("--tolerance", type=float, default=0, help="distance up to which numbers are alike")
    return parser


def _requests(text: str) -> int:
    number = int(text)
    if not 0 <= number <= MOST_REQUESTS:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {MOST_REQUESTS}")
    return number


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return number
