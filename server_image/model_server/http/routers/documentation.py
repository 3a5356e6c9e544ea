"""`/openapi.json`, `/docs` and `/redoc`. The pages' scripts come with the fastapi-offline package: no browser needs
the internet. Their addresses are relative, so that they work below any prefix of a gateway.
"""

from __future__ import annotations

import asyncio

import orjson
from fastapi import APIRouter, Response
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from model_server.auth import Authenticator
from model_server.dataplane import DataPlane
from model_server.domain.model import LoadedModel
from model_server.http.application import Application
from model_server.http.described import describe_model
from model_server.http.keys import required_key
from model_server.http.openapi import describe

_ASSETS = "docs-assets"
# Swagger's style has a dark mode, which its page does not turn on by itself.
_DARK_MODE = (
    b"<script>document.documentElement.classList.toggle("
    b"'dark-mode', matchMedia('(prefers-color-scheme: dark)').matches)</script>"
)


def add_pages(app: Application, plane: DataPlane, guard: Authenticator) -> None:
    """Serve the document and its pages to whom `guard` lets in; the scripts of the pages are the same everywhere."""
    document: bytes | None = None
    pages = APIRouter(include_in_schema=False, dependencies=required_key(guard))

    @pages.get("/openapi.json")
    async def openapi() -> Response:
        nonlocal document
        loaded = plane.loaded
        if document is None:
            # Once, and in a thread: a document of thousands of features takes a second.
            document = await asyncio.to_thread(_written, app, plane, loaded)
        return Response(document, media_type="application/json")

    add_viewers(pages)
    app.include_router(pages)
    add_assets(app)


def _written(app: Application, plane: DataPlane, loaded: LoadedModel) -> bytes:
    return orjson.dumps(describe(app, describe_model(plane, loaded), has_limits=plane.has_key_limits))


def add_viewers(pages: APIRouter, below: str = "", root: str = "") -> None:
    """Show the document at `below`/openapi.json; `root` leads from there to the server's own root."""
    assets = f"{root}{_ASSETS}"

    @pages.get(f"{below}/docs")
    async def swagger() -> HTMLResponse:
        page = get_swagger_ui_html(
            openapi_url="openapi.json",
            title="Model server",
            swagger_js_url=f"{assets}/swagger-ui-bundle.js",
            swagger_css_url=f"{assets}/swagger-ui.css",
            swagger_favicon_url=f"{assets}/favicon.png",
        )
        return HTMLResponse(bytes(page.body).replace(b"</head>", _DARK_MODE + b"</head>"))

    @pages.get(f"{below}/redoc")
    async def redoc() -> HTMLResponse:
        return get_redoc_html(
            openapi_url="openapi.json",
            title="Model server",
            redoc_js_url=f"{assets}/redoc.standalone.js",
            redoc_favicon_url=f"{assets}/favicon.png",
            with_google_fonts=False,
        )


def add_assets(app: Application) -> None:
    """Serve what the pages need."""
    app.mount(f"/{_ASSETS}", StaticFiles(packages=[("fastapi_offline", "static")]), name="docs-assets")
