"""`/openapi.json`, `/docs` and `/redoc`, generated from model.yaml.

FastAPI describes the surface and pydantic the rows; both are imported when somebody first looks, so
that a server which nobody looks at starts sooner and stays smaller. The pages' scripts come with the
fastapi-offline package: no browser needs the internet.
"""

from __future__ import annotations

import asyncio
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import orjson

from model_server.errors import UnknownRoute
from model_server.http import Request, Response
from model_server.lifecycle import Lifecycle

if TYPE_CHECKING:
    from model_server.routes import Route

_MEDIA_TYPES = {".js": b"text/javascript", ".css": b"text/css", ".png": b"image/png"}
_ASSETS = "/docs-assets"
_HTML = b"text/html; charset=utf-8"


class Documentation:
    """The handlers of the documentation; the document is made once."""

    def __init__(self, lifecycle: Lifecycle, *, max_rows: int) -> None:
        self._lifecycle = lifecycle
        self._max_rows = max_rows
        self._document: bytes | None = None

    def routes(self) -> list[Route]:
        """The routes of the documentation."""
        from model_server.routes import Route

        return [
            Route("GET", "/openapi.json", self.openapi, is_open=True),
            Route("GET", "/docs", self.swagger, is_open=True),
            Route("GET", "/redoc", self.redoc, is_open=True),
            Route("GET", _ASSETS + "/{file}", self.asset, is_open=True),
        ]

    async def openapi(self, request: Request) -> Response:
        """`GET /openapi.json`. Raises ModelNotReady until the model's features are known."""
        loaded = self._lifecycle.served.loaded
        if self._document is None:
            from model_server.openapi import describe

            document = await asyncio.to_thread(describe, loaded, max_rows=self._max_rows)
            self._document = orjson.dumps(document)
        return Response(200, self._document)

    async def swagger(self, request: Request) -> Response:
        """`GET /docs`."""
        from fastapi.openapi.docs import get_swagger_ui_html

        page = get_swagger_ui_html(
            openapi_url="openapi.json",
            title="Model server",
            swagger_js_url="docs-assets/swagger-ui-bundle.js",
            swagger_css_url="docs-assets/swagger-ui.css",
            swagger_favicon_url="docs-assets/favicon.png",
        )
        return Response(200, bytes(page.body), _HTML)

    async def redoc(self, request: Request) -> Response:
        """`GET /redoc`."""
        from fastapi.openapi.docs import get_redoc_html

        page = get_redoc_html(
            openapi_url="openapi.json",
            title="Model server",
            redoc_js_url="docs-assets/redoc.standalone.js",
            redoc_favicon_url="docs-assets/favicon.png",
            with_google_fonts=False,
        )
        return Response(200, bytes(page.body), _HTML)

    async def asset(self, request: Request) -> Response:
        """A script or style of the pages."""
        content = _assets().get(request.params["file"])
        if content is None:
            raise UnknownRoute(f"there is nothing at {request.path}")
        suffix = request.params["file"][request.params["file"].rindex(".") :]
        return Response(200, content, _MEDIA_TYPES[suffix], [(b"cache-control", b"public, max-age=86400")])


@cache
def _assets() -> dict[str, bytes]:
    folder = resources.files("fastapi_offline") / "static"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name.endswith(tuple(_MEDIA_TYPES))}
