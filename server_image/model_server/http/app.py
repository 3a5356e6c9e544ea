"""Puts the application together: a router for each protocol, on one data plane."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.convertors import Convertor, register_url_convertor

from model_server.auth import Guards
from model_server.dataplane import DataPlane
from model_server.http.application import Application
from model_server.http.body import RequestLimits
from model_server.http.predictions import Predictions
from model_server.http.routers import documentation, explain, health, mlflow, openai, predict, streams, triton, v1, v2
from model_server.telemetry import Telemetry


class _Name(Convertor[str]):
    """One segment of a path without a colon, as V1 puts its verb behind one."""

    regex = "[^/:]+"

    def convert(self, value: str) -> str:
        """The name as it is."""
        return value

    def to_string(self, value: str) -> str:
        """The name as it is."""
        return value


register_url_convertor("name", _Name())


def create_app(
    plane: DataPlane,
    telemetry: Telemetry,
    limits: RequestLimits,
    *,
    root_path: str = "",
    cors_origins: Sequence[str] = (),
    guards: Guards | None = None,
) -> Application:
    """The application of the model that the plane will have.

    `root_path` is the prefix under which a gateway shows the server, `cors_origins` are the origins whose pages may
    call it. `guards` are what the metrics and the pages ask of a request, by default nothing.
    """
    guards = guards or Guards()
    app = Application(plane, telemetry, limits, root_path=root_path, cors_origins=cors_origins)
    predictions = Predictions(app)
    app.include_router(predict.create_router(plane, predictions, limits))
    app.include_router(explain.create_router(plane, predictions))
    app.include_router(v1.create_router(plane, predictions))
    # Before V2's own: `/v2/models/stats` is no model.
    app.include_router(triton.create_router(plane, limits))
    app.include_router(v2.create_router(plane, predictions))
    app.include_router(streams.create_router(plane, limits))
    app.include_router(mlflow.create_router(plane, predictions))
    app.include_router(openai.create_router(predictions))
    app.include_router(health.create_router(plane, telemetry, guards.metrics))
    documentation.add_pages(app, plane, guards.docs)
    return app
