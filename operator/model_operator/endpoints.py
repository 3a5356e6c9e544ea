"""`GET /metrics` of the operator itself."""

from aiohttp import web

from model_operator.telemetry import Telemetry


async def start_metrics_server(telemetry: Telemetry, host: str, port: int) -> web.AppRunner:
    """Serve the metrics until `cleanup()` of what is returned; port 0 takes a free one."""

    async def metrics(_: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=telemetry.expose(), headers=headers)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
