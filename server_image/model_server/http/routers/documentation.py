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
from model_server.http.application import Application
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
            document = orjson.dumps(await asyncio.to_thread(describe, app, plane, loaded))
        return Response(document, media_type="application/json")

    @pages.get("/docs")
    async def swagger() -> HTMLResponse:
        page = get_swagger_ui_html(
            openapi_url="openapi.json",
            title="Model server",
            swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{_ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{_ASSETS}/favicon.png",
        )
        return HTMLResponse(bytes(page.body).replace(b"</head>", _DARK_MODE + b"</head>"))

    @pages.get("/redoc")
    async def redoc() -> HTMLResponse:
        return get_redoc_html(
            openapi_url="openapi.json",
            title="Model server",
            redoc_js_url=f"{_ASSETS}/redoc.standalone.js",
            redoc_favicon_url=f"{_ASSETS}/favicon.png",
            with_google_fonts=False,
        )

    app.include_router(pages)
    app.mount(f"/{_ASSETS}", StaticFiles(packages=[("fastapi_offline", "static")]), name="docs-assets")
