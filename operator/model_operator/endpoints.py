"""`GET /metrics` of the operator itself."""

import asyncio

from aiohttp import web

from model_operator.telemetry import Telemetry


async def serve_metrics(telemetry: Telemetry, host: str, port: int, stop: asyncio.Event) -> None:
    """Serve the metrics until `stop` is set.

    Raises:
        OSError: the address is taken.
    """

    async def metrics(_: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=telemetry.expose(), headers=headers)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        await stop.wait()
    finally:
        await runner.cleanup()
