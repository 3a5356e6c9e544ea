"""`python -m model_server pool`: many models behind one port."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from model_server.auth import AllowAll, ApiKeyAuth, TokenAuth, guards_of
from model_server.certificate import Certificate, PlainText
from model_server.errors import InternalError, StartError
from model_server.http.body import RequestLimits
from model_server.http.held_port import OwnPort
from model_server.key_limits import KeyLimits, keys_of, parse_limits
from model_server.lifecycle import Phase
from model_server.logs import configure, toggle_debug
from model_server.pool.app import create_pool_app
from model_server.pool.catalog import Catalog
from model_server.pool.front import PoolPlane
from model_server.pool.pool import Pool
from model_server.pool.settings import DOWNLOADS, PoolSettings, read_pool_settings
from model_server.pool.telemetry import PoolTelemetry
from model_server.pool.usage import PoolUsage
from model_server.server import Server, open_grpc, server_config
from model_server.settings import Settings
from model_server.sockets import listen
from model_server.termination import give_up, termination_file
from model_server.tracers import open_tracer

if TYPE_CHECKING:
    from model_server.grpc.port import Service

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0


def main(environ: Mapping[str, str]) -> int:
    """Serve the models of a list until told to stop; exit codes as those of a server of one model."""
    termination = termination_file(environ)
    try:
        pool_settings, settings = read_pool_settings(environ)
        configure(settings.log_level, {"pool": settings.name, "namespace": settings.namespace})
        with listen(settings) as listener, _own_folder(settings) as folder:
            log.info("listening", extra={"host": settings.host, "port": listener.getsockname()[1]})
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(pool_settings, settings, environ, listener, folder))
    except StartError as error:
        return give_up(error, termination)
    log.info("stopped")
    return 0


async def _serve(
    pool_settings: PoolSettings, settings: Settings, environ: Mapping[str, str], listener: socket.socket, folder: Path
) -> None:
    catalog = Catalog(pool_settings.models)
    telemetry = PoolTelemetry(revision=settings.revision, most_models=pool_settings.metric_models)
    key_limits = parse_limits(settings.auth_limits)
    limited = keys_of(key_limits)
    authenticator = ApiKeyAuth(settings.auth_dir, limited=limited) if settings.auth_dir else AllowAll()
    operator = TokenAuth(settings.shadow_token_sha256) if settings.shadow_token_sha256 else None
    tls = Certificate(settings.tls_dir) if settings.tls_dir else PlainText()
    tracer = open_tracer(environ, settings)
    seconds = settings.request_timeout_seconds
    pool = Pool(catalog, pool_settings, telemetry, environ=environ, folder=folder, timeout_seconds=seconds)
    telemetry.registry.register(PoolUsage(lambda: pool.pids))
    plane = PoolPlane(pool, telemetry, tracer, authenticator, KeyLimits(key_limits, telemetry), timeout_seconds=seconds)
    limits = RequestLimits(
        max_bytes=settings.max_request_bytes, timeout_seconds=seconds, gzip_bytes=settings.gzip_bytes
    )
    app = create_pool_app(
        plane,
        telemetry,
        limits,
        root_path=settings.root_path.rstrip("/"),
        cors_origins=settings.cors_origins,
        guards=guards_of(settings.auth_protect, authenticator, operator),
    )
    server = Server(server_config(app, settings, tls), plane, telemetry, settings, tls, OwnPort())
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, toggle_debug, settings.log_level)
    # Beside the server, so that probes are answered meanwhile.
    beginning = asyncio.create_task(_begin(pool, plane, server), name="begin")
    ticking = asyncio.create_task(_tick(pool, plane), name="tick")
    try:
        async with open_grpc(settings, lambda: _inference(plane), tls) as grpc_port:
            if grpc_port is not None:
                plane.lifecycle.listen(grpc_port.tell)
            await server.serve(sockets=[listener])
    finally:
        beginning.cancel()
        ticking.cancel()
        await pool.close()
        await tracer.close()
    if server.failure is not None:
        raise server.failure


def _inference(plane: PoolPlane) -> Service:
    from model_server.pool.grpc_service import PoolService

    return PoolService(plane)


async def _begin(pool: Pool, plane: PoolPlane, server: Server) -> None:
    plane.lifecycle.report(Phase.LOADING, "starting the processes, and loading the first models of the list")
    try:
        await pool.begin()
    except StartError as error:
        server.failure = error
        server.end()
    except Exception as error:
        log.exception("the pool does not start")
        server.failure = InternalError(f"the pool does not start: {type(error).__name__}: {error}")
        server.end()
    else:
        plane.lifecycle.report(Phase.READY, pool.summary)


async def _tick(pool: Pool, plane: PoolPlane) -> None:
    while True:
        await asyncio.sleep(TICK_SECONDS)
        try:
            await pool.tick()
        except Exception:
            log.exception("the look at the list and at the processes failed")
        if plane.is_ready:
            plane.lifecycle.report(Phase.READY, pool.summary)


@contextmanager
def _own_folder(settings: Settings) -> Iterator[Path]:
    """A folder for downloads that holds nothing of an earlier process."""
    if settings.model_dir is None:
        with tempfile.TemporaryDirectory(prefix="model-pool-") as temporary:
            (Path(temporary) / DOWNLOADS).mkdir(mode=0o700)
            yield Path(temporary)
        return
    folder = settings.model_dir / "pool"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / DOWNLOADS).mkdir(mode=0o700, parents=True)
    yield folder
