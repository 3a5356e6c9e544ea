"""Runs the application: listens at once, loads the model beside it, drains on SIGTERM; for `__main__.py`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol

import uvicorn

from model_server.auth import AllowAll, ApiKeyAuth, TokenAuth, guards_of
from model_server.certificate import Certificate, PlainText, Tls
from model_server.dataplane import DataPlane
from model_server.errors import DependencyMissing, ModelHung, StartError
from model_server.http.app import create_app
from model_server.http.application import Application
from model_server.http.body import RequestLimits
from model_server.http.comparison import create_comparison_app
from model_server.http.connections import Connection, close_overdue
from model_server.http.held_port import HeldPort, OwnPort, Port
from model_server.key_limits import KeyLimits, keys_of, parse_limits
from model_server.lifecycle import Lifecycle
from model_server.logs import toggle_debug
from model_server.model_loader import ModelLoader
from model_server.registry_webhook import RegistryWebhook
from model_server.settings import Settings
from model_server.source_watcher import SourceWatcher
from model_server.supervision import HOLD, SupervisorMetrics
from model_server.telemetry import Telemetry
from model_server.tracers import open_tracer

if TYPE_CHECKING:
    from model_server.grpc.port import GrpcPort, Service

log = logging.getLogger(__name__)

# Longer than the idle timeout of the usual proxies (60 s), so that they close first and never
# write a request into a connection that is being closed here.
KEEP_ALIVE_SECONDS = 75


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """What a worker is given by its parent: the open ports, a folder for downloads, shared memory, its number."""

    listener: socket.socket
    comparison: socket.socket | None
    folder: Path
    memory: mmap
    worker: int


async def run(settings: Settings, environ: Mapping[str, str], context: WorkerContext) -> None:
    """Serve until SIGTERM or SIGINT. Raises the StartError that made serving impossible, or RestartNeeded."""
    telemetry = Telemetry(context.memory, context.worker)
    lifecycle = Lifecycle()
    key_limits = parse_limits(settings.auth_limits)
    limited = keys_of(key_limits)
    authenticator = ApiKeyAuth(settings.auth_dir, limited=limited) if settings.auth_dir else AllowAll()
    limits = RequestLimits(
        max_bytes=settings.max_request_bytes,
        timeout_seconds=settings.request_timeout_seconds,
        gzip_bytes=settings.gzip_bytes,
    )
    tracer = open_tracer(environ, settings)
    tls = Certificate(settings.tls_dir) if settings.tls_dir else PlainText()
    plane = DataPlane(
        lifecycle,
        telemetry,
        tracer,
        authenticator,
        name=settings.name,
        max_rows=settings.max_rows,
        key_limits=KeyLimits(key_limits, telemetry),
    )
    operator = TokenAuth(settings.shadow_token_sha256) if settings.shadow_token_sha256 else None
    app = create_app(
        plane,
        telemetry,
        limits,
        root_path=settings.root_path.rstrip("/"),
        cors_origins=settings.cors_origins,
        guards=guards_of(settings.auth_protect, authenticator, operator),
    )
    comparison = create_comparison_app(plane, telemetry, operator or authenticator, has_token=operator is not None)
    port: Port = OwnPort()
    if settings.supervisor_dir is not None:
        port = HeldPort(context.listener, settings.supervisor_dir / HOLD)
        telemetry.registry.register(SupervisorMetrics(settings.supervisor_dir))
    server = Server(server_config(app, settings, tls), plane, telemetry, settings, tls, port)
    loader = ModelLoader(settings, environ, context.folder, lifecycle, telemetry, server.end)
    add_registry_webhook(app, settings, environ, loader.source)
    loader.begin()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, toggle_debug, settings.log_level)
    async with (
        _beside(server, server_config(comparison, settings, tls), context.comparison),
        open_grpc(settings, lambda: _inference(plane), tls) as grpc_port,
        _messages(settings, plane, telemetry, context.worker),
    ):
        if grpc_port is not None:
            lifecycle.listen(grpc_port.tell)
        await server.serve(sockets=[] if settings.supervisor_dir is not None else [context.listener])
    loader.close()
    plane.close()
    lifecycle.close()
    await tracer.close()
    failure = loader.failure or server.failure
    if failure is not None:
        raise failure


def add_registry_webhook(
    app: Application, settings: Settings, environ: Mapping[str, str], source: SourceWatcher
) -> None:
    """Add the route of the registry's webhook, where a secret for it is set. Raises SettingsInvalid."""
    webhook = RegistryWebhook.of(settings.storage_uri, environ)
    if webhook is not None and not source.polls:
        log.warning("a webhook of the registry brings the next poll forward, and nothing is polled: set pollInterval")
    elif webhook is not None:
        # Imported only here: most servers have none.
        from model_server.http.routers import registry

        app.include_router(registry.create_router(webhook, source.look_now))


def server_config(app: Application, settings: Settings, tls: Tls) -> uvicorn.Config:
    """How uvicorn serves an application: no log of its own, no headers of its own, the limits of `Connection`."""
    tls_context = tls.context
    return uvicorn.Config(
        app,
        http=Connection,
        ssl_context_factory=None if tls_context is None else lambda config, default: tls_context,
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(settings.request_timeout_seconds) + 1,
    )


@asynccontextmanager
async def _beside(server: Server, config: uvicorn.Config, listener: socket.socket | None) -> AsyncIterator[None]:
    """Serve another application on a port of its own; its connections are the server's, which ends them all."""
    if listener is None:
        yield
        return
    config.load()

    def connect() -> asyncio.Protocol:
        return Connection(config=config, server_state=server.server_state, app_state={})

    port = await asyncio.get_running_loop().create_server(connect, sock=listener, ssl=config.ssl)
    try:
        yield
    finally:
        port.close()


def _inference(plane: DataPlane) -> Service:
    from model_server.grpc.service import InferenceService

    return InferenceService(plane)


@asynccontextmanager
async def open_grpc(
    settings: Settings, make_service: Callable[[], Service], tls: Tls
) -> AsyncIterator[GrpcPort | None]:
    """The gRPC port, when one is set; `make_service` may import its library, which is optional.

    Raises DependencyMissing when that is not installed.
    """
    if not settings.grpc_port:
        yield None
        return
    try:
        from model_server.grpc.port import GrpcPort

        service = make_service()
    except ModuleNotFoundError as error:
        raise DependencyMissing(
            f"the gRPC port needs {error.name}, which is not installed", hint="Install modeldeploy[server-grpc]."
        ) from None
    port = GrpcPort(service, host=settings.host, port=settings.grpc_port, tls=tls, max_bytes=settings.max_request_bytes)
    await port.start()
    try:
        yield port
    finally:
        await port.stop(settings.request_timeout_seconds)


@asynccontextmanager
async def _messages(settings: Settings, plane: DataPlane, telemetry: Telemetry, worker: int) -> AsyncIterator[None]:
    """Answer the messages of a broker, when one is set. Raises DependencyMissing, or SettingsInvalid."""
    if not settings.stream_url:
        yield
        return
    # Imported only here: nearly every server has no broker.
    from model_server.messaging.stream import create_consumer

    consumer = create_consumer(settings, plane, telemetry, worker)
    task = asyncio.create_task(consumer.run(), name="messages")
    try:
        yield
    finally:
        consumer.stop()
        await task


class ServedPlane(Protocol):
    """What the server asks of a data plane: that of a model, or of a pool."""

    @property
    def lifecycle(self) -> Lifecycle: ...

    def confirm(self) -> None: ...


class ReadyGauge(Protocol):
    """Counts whether this process answers."""

    def ready(self, is_ready: bool) -> None: ...


class Server(uvicorn.Server):
    """uvicorn that drains: unready at once, open connections served a little longer, then the end."""

    def __init__(
        self,
        config: uvicorn.Config,
        plane: ServedPlane,
        telemetry: ReadyGauge,
        settings: Settings,
        tls: Tls,
        port: Port,
    ) -> None:
        super().__init__(config)
        self.failure: StartError | None = None
        self._tls = tls
        self._port = port
        self._plane = plane
        self._lifecycle = plane.lifecycle
        self._telemetry = telemetry
        self._drain_seconds = settings.drain_seconds
        self._header_timeout = settings.header_timeout_seconds
        self._loop = asyncio.get_running_loop()

    async def on_tick(self, counter: int) -> bool:
        """uvicorn's tick, ten times a second; once a second slow connections are cut and the certificate looked at."""
        await self._port.look(self.config, self._connect)
        if counter % 10 == 0:
            count = close_overdue(list(self.server_state.connections), self._loop.time(), self._header_timeout)
            if count:
                log.info("slow connections cut", extra={"connections": count})
            self._tls.refresh()
            self._end_if_hung()
            self._plane.confirm()
            await self._lifecycle.tick()
        return await super().on_tick(counter)

    def _connect(self) -> asyncio.Protocol:
        return Connection(config=self.config, server_state=self.server_state, app_state={})

    def _end_if_hung(self) -> None:
        """No request is answered any more: end, with the reason, and be started again."""
        seconds = self._lifecycle.hung_seconds
        if seconds and self.failure is None:
            self.failure = ModelHung(f"a call of the model has not returned for {seconds:.0f} s")
            self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, and finish what is in flight."""
        self._port.close()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain on the first signal, end at once on the second."""
        # Not remembered in uvicorn's list: it would raise the signal again and spoil the exit status.
        if self._lifecycle.is_draining:
            self.should_exit = self.force_exit = True
        else:
            self._lifecycle.drain()
            self._telemetry.ready(False)
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._port.close()
        connections = len(self.server_state.connections)
        log.info("draining", extra={"connections": connections, "pid": os.getpid()})
        # Clients learn from `Connection: close` in their next answer; a connection that was closed
        # under them could lose the request that is on its way.
        self._loop.call_later(self._drain_seconds if connections else 0, self.end)

    def end(self) -> None:
        """Finish what is in flight and return from `serve`."""
        self.should_exit = True
