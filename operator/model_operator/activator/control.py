"""The activator's own endpoints: routes and demand for the operator, metrics and health for everybody else."""

import hmac

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from model_operator.activator.metrics import Metrics
from model_operator.activator.table import Table
from model_operator.api.activation import Bound, Routes

#: Seconds that a question about demand may wait.
LONGEST_QUESTION = 20.0
_LARGEST_ROUTES = 64 * 2**20
_ROUTES = msgspec.json.Decoder(Routes)


def control_app(table: Table, token: str) -> web.Application:
    """Return the application that the operator talks to; every request needs the token."""

    @web.middleware
    async def authorized(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("x-api-key", "")
        if not hmac.compare_digest(given.encode(), token.encode()):
            raise web.HTTPUnauthorized
        return await handler(request)

    async def routes(request: web.Request) -> web.Response:
        try:
            told = _ROUTES.decode(await request.read())
        except msgspec.DecodeError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        return _json(Bound(ports=await table.apply(told)))

    async def demand(request: web.Request) -> web.Response:
        after = request.query.get("after", "-1")
        if not after.lstrip("-").isdigit():
            raise web.HTTPBadRequest(text=f"after is {after!r}; write the version of the last answer")
        return _json(await table.demand(int(after), LONGEST_QUESTION))

    app = web.Application(middlewares=[authorized], client_max_size=_LARGEST_ROUTES)
    app.router.add_put("/routes", routes)
    app.router.add_get("/demand", demand)
    return app


class Readiness:
    """Whether the pod is to get requests: from the first routes until it ends."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.is_leaving = False

    def __bool__(self) -> bool:
        return self._table.is_told and not self.is_leaving


def metrics_app(metrics: Metrics, ready: Readiness) -> web.Application:
    """Return the application with metrics and health."""

    async def expose(_: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=metrics.expose(), headers=headers)

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readiness(_: web.Request) -> web.Response:
        return web.Response(text="ok") if ready else web.Response(status=503, text="no routes from the operator yet")

    app = web.Application()
    app.router.add_get("/metrics", expose)
    app.router.add_get("/healthz", health)
    app.router.add_get("/readyz", readiness)
    return app


def _json(value: msgspec.Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
