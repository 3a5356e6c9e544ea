"""`GET /metrics` of the operator itself."""

import asyncio

from aiohttp import web

from model_operator.telemetry import Telemetry


async def start_metrics_server(telemetry: Telemetry, host: str, port: int) -> web.AppRunner:
    """Serve the metrics until `cleanup()` of what is returned.

    Raises:
        OSError: the address is taken.
    """

    async def metrics(request: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=telemetry.expose(request.query.getall("name[]", ())), headers=headers)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner


async def end_with(stop: asyncio.Event, runner: web.AppRunner) -> None:
    """End a server as soon as `stop` is set: its open connections would keep kopf waiting."""
    try:
        await stop.wait()
    finally:
        await runner.cleanup()
