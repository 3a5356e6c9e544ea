"""The metrics endpoint of the operator, `GET /metrics`."""

import asyncio
import errno
import socket

from aiohttp import web

from model_operator.errors import OperatorError
from model_operator.telemetry import Telemetry


class PortInUse(OperatorError):
    """The address of an endpoint is in use or invalid; the message names the setting to change."""


def check_port(host: str, port: int, setting: str) -> None:
    """Raise `PortInUse` if an address is in use; kopf, which serves `/healthz`, would exit with a traceback."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise _in_use(error, host, port, setting) from error


def _in_use(error: OSError, host: str, port: int, setting: str) -> OperatorError:
    why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
    return PortInUse(f"port {port} of {host} {why}; set MODEL_OPERATOR_{setting} to another one")


async def start_metrics_server(telemetry: Telemetry, host: str, port: int) -> web.AppRunner:
    """Serve the metrics until `cleanup()` of the returned runner.

    Raises:
        PortInUse: the address is in use.
    """

    async def metrics(request: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=telemetry.expose(request.query.getall("name[]", ())), headers=headers)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise _in_use(error, host, port, "METRICS_PORT") from error
    return runner


async def end_with(stop: asyncio.Event, runner: web.AppRunner) -> None:
    """Stop a server as soon as `stop` is set: its open connections would delay the end of kopf."""
    try:
        await stop.wait()
    finally:
        await runner.cleanup()
