"""The process of the activator: its ports, its end. `python -m model_operator.activator`."""

import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
from contextlib import AsyncExitStack

import uvloop
from aiohttp import web

from model_operator import logs
from model_operator.activator.calls import Calls
from model_operator.activator.control import Readiness, control_app, metrics_app
from model_operator.activator.gate import Gate
from model_operator.activator.listeners import Listeners, Open
from model_operator.activator.metrics import Metrics
from model_operator.activator.proxy import Proxy, session
from model_operator.activator.settings import InvalidSettings, Settings, settings_from
from model_operator.activator.splice import Splices
from model_operator.activator.table import Table
from model_operator.api.activation import Route

log = logging.getLogger("model_operator.activator")

#: Bytes of a body that are read ahead for a request that is held.
_READ_AHEAD = 16 * 1024
#: Seconds for connections that are still open at the end.
_END_SECONDS = 2.0


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; then answer what is held, as long as the pod may."""
    metrics, hold_seconds = Metrics(), float(settings.hold_seconds)
    async with AsyncExitStack() as stack:
        pods = await stack.enter_async_context(session())

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return await proxy.handle(request)

        async def listen(route: Route) -> Open:
            return await listeners.open(route)

        table = Table(listen, metrics, most_per_model=settings.max_held_per_model, per_pod=settings.requests_per_pod)
        gate = Gate(table, metrics, hold_seconds=hold_seconds, most_held=settings.max_held)
        proxy, calls = Proxy(gate, pods), Calls(gate, most_bytes=settings.max_grpc_message_bytes)
        # A client that goes away gives its place in the line back.
        connections = web.Server(handle, handler_cancellation=True, access_log=None, read_bufsize=_READ_AHEAD)
        stack.push_async_callback(connections.shutdown, _END_SECONDS)
        listeners = await stack.enter_async_context(
            Listeners(
                gate,
                connections,
                calls,
                Splices(gate, most=settings.max_held),
                host=settings.host,
                leave_seconds=hold_seconds,
            )
        )
        ready = Readiness(table)
        for app, port in (
            (control_app(table, settings.token), settings.control_port),
            (metrics_app(metrics, ready), settings.metrics_port),
        ):
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, settings.host, port).start()
        log.info("listening for the operator on port %s", settings.control_port)
        await stop.wait()
        ready.is_leaving = True
        await _leave(table, settings)


async def _leave(table: Table, settings: Settings) -> None:
    """Wait until nobody is led here any more, then until what came before is answered."""
    await asyncio.sleep(settings.leave_seconds)
    await table.close()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(table.drained(), settings.hold_seconds)


def _allow_connections() -> None:
    """Raise the limit of open files to what the container allows: each request that is held has a socket."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _until_signalled(settings: Settings) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run(settings, stop)


def main() -> int:
    """Start the activator; the exit status is 78 (EX_CONFIG) when the settings are wrong."""
    try:
        settings = settings_from(os.environ)
    except InvalidSettings as error:
        sys.stderr.write(f"model_operator.activator: {error}\n")
        return 78
    logs.set_up(settings.log_level, settings.log_format)
    _allow_connections()
    try:
        uvloop.run(_until_signalled(settings))
    except OSError as error:
        sys.stderr.write(f"model_operator.activator: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
