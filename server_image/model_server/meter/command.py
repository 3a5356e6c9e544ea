"""`python -m model_server meter`: a server that is not ours, counted as ours."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Mapping
from mmap import mmap

import uvloop

from model_server.auth import AllowAll, ApiKeyAuth, TokenAuth, guards_of
from model_server.certificate import Certificate, PlainText, Tls
from model_server.domain.model import Identity
from model_server.errors import StartError
from model_server.key_limits import KeyLimits, keys_of, parse_limits
from model_server.logs import configure, toggle_debug
from model_server.meter.front import Front
from model_server.meter.meter import Limits, Meter
from model_server.meter.readiness import watch
from model_server.meter.recording import BodyLog, Labels
from model_server.meter.settings import MeterSettings, read_meter_settings
from model_server.meter.upstream import STATUSES, Upstream
from model_server.settings import Settings
from model_server.shared_values import SharedValues
from model_server.sockets import listen
from model_server.storage.redaction import redacted
from model_server.telemetry import Telemetry
from model_server.termination import give_up, termination_file
from model_server.workers import supervise

log = logging.getLogger(__name__)

TICK_SECONDS = 0.25


def main(environ: Mapping[str, str]) -> int:
    """Pass requests on until told to stop; exit codes as those of a model server."""
    termination = termination_file(environ)
    try:
        own, settings = read_meter_settings(environ)
        fixed = {"model": settings.name, "namespace": settings.namespace, "revision": settings.revision}
        configure(settings.log_level, fixed)
        with listen(settings) as listener:
            log.info("listening", extra={"host": settings.host, "port": listener.getsockname()[1]})
            memory = mmap(-1, SharedValues.size(settings.workers))

            def work(worker: int) -> int:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    runner.run(_serve(own, settings, listener, memory, worker))
                return 0

            code = work(0) if settings.workers == 1 else supervise(settings.workers, work)
    except StartError as error:
        return give_up(error, termination)
    log.info("stopped")
    return code


async def _serve(own: MeterSettings, settings: Settings, listener: socket.socket, memory: mmap, worker: int) -> None:
    loop = asyncio.get_running_loop()
    meter = _meter(own, settings, memory, worker)
    tls: Tls = Certificate(settings.tls_dir) if settings.tls_dir else PlainText()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, toggle_debug, settings.log_level)
    server = await loop.create_server(lambda: Front(meter), sock=listener, ssl=tls.context, backlog=2048)
    tasks = [
        asyncio.create_task(watch(meter, own.readiness_path), name="readiness"),
        asyncio.create_task(_tick(meter, tls), name="tick"),
    ]
    try:
        await stop.wait()
        await _drain(meter, server, settings)
    finally:
        for task in tasks:
            task.cancel()
        meter.close()


def _meter(own: MeterSettings, settings: Settings, memory: mmap, worker: int) -> Meter:
    telemetry = Telemetry(memory, worker, STATUSES)
    telemetry.loaded(
        Identity(
            model=settings.name,
            version=settings.version or settings.revision,
            revision=settings.revision,
            format="container",
            sha256=settings.sha256,
            uri=redacted(own.uri),
        )
    )
    key_limits = parse_limits(settings.auth_limits)
    limited = keys_of(key_limits)
    authenticator = ApiKeyAuth(settings.auth_dir, limited=limited) if settings.auth_dir else AllowAll()
    operator = TokenAuth(settings.shadow_token_sha256) if settings.shadow_token_sha256 else None
    return Meter(
        Upstream(own.upstream_host, own.upstream_port),
        telemetry,
        authenticator,
        KeyLimits(key_limits, telemetry),
        Limits(
            max_bytes=settings.max_request_bytes,
            timeout_seconds=settings.request_timeout_seconds,
            header_timeout_seconds=settings.header_timeout_seconds,
            max_open=settings.max_queue_size,
        ),
        labels=Labels(telemetry, remembers=own.protocol == "openInference"),
        log=BodyLog.of(settings, telemetry),
        guards=guards_of(settings.auth_protect, authenticator, operator),
        prediction_paths=own.prediction_paths,
    )


async def _tick(meter: Meter, tls: Tls) -> None:
    loop = asyncio.get_running_loop()
    number = 0
    while True:
        await asyncio.sleep(TICK_SECONDS)
        number += 1
        now = loop.time()
        for client in list(meter.clients):
            client.look(now)
        if number % 4 == 0:
            tls.refresh()
            meter.telemetry.tick()


async def _drain(meter: Meter, server: asyncio.Server, settings: Settings) -> None:
    """Answer what comes on open connections a little longer, and finish what is in flight."""
    meter.drain()
    server.close()
    log.info("draining", extra={"connections": len(meter.clients)})
    # Clients learn from `Connection: close` in their next answer.
    await asyncio.sleep(settings.drain_seconds if meter.clients else 0)
    for client in list(meter.clients):
        client.retire()
    await meter.finish(settings.request_timeout_seconds + 1)
