"""The application is FastAPI's, and the fast path answers as the framework does."""

from __future__ import annotations

from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from model_server.auth import AllowAll
from model_server.batching import Batcher, BatchLimits
from model_server.dataplane import DataPlane
from model_server.domain.features import Feature, Metadata
from model_server.domain.model import Identity, LoadedModel
from model_server.http.app import create_app
from model_server.http.body import RequestLimits
from model_server.inputs.matrix import Matrix
from model_server.lifecycle import Lifecycle, ServingModel
from model_server.monitoring.monitor import Monitor
from model_server.settings import Settings
from model_server.telemetry import Telemetry
from model_server.tracing import PropagateOnlyTracer

ROW = {"instances": [{"a": 1, "b": 2}]}


class Sum:
    """Adds the features."""

    signature = None
    probability_output = ""
    classes = ()
    runs_inline = True

    def predict(self, inputs, *, probabilities):
        (rows,) = inputs.values()
        return {"predict": np.sum(rows, axis=1)}


@pytest.fixture
async def client():
    """A client of the application with a served model, without a socket."""
    telemetry, lifecycle = Telemetry(), Lifecycle()
    plane = DataPlane(lifecycle, telemetry, PropagateOnlyTracer(), AllowAll(), name="m", max_rows=10)
    app = create_app(plane, telemetry, RequestLimits(max_bytes=1000, timeout_seconds=5))
    features = [Feature(name="a"), Feature(name="b")]
    identity = Identity(model="m", version="1", revision="r")
    adapter = Matrix("x", features, np.dtype(np.float64))
    loaded = LoadedModel(identity=identity, metadata=Metadata(), adapter=adapter, model=Sum(), outputs=())

    limits = BatchLimits(max_rows=8, max_delay_seconds=0, max_queue=8, timeout_seconds=5)
    monitor = Monitor(loaded, Settings(storage_uri="file:///m"), telemetry)
    lifecycle.serve(ServingModel(loaded, Batcher(Sum(), limits, telemetry), monitor))
    telemetry.ready(True)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
        yield SimpleNamespace(http=http, app=app)
    plane.close()
    lifecycle.close()


async def test_the_application_is_fastapi(client):
    assert isinstance(client.app, FastAPI)
    assert (await client.http.get("/readyz")).json() == {"phase": "ready", "message": "serving m 1"}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        pytest.param("/predict", ROW, 200, id="rows"),
        pytest.param("/v1/models/m:predict", ROW, 200, id="V1"),
        pytest.param("/v2/models/m/infer", {"inputs": []}, 422, id="V2, refused"),
        pytest.param("/invocations", ROW, 200, id="MLflow"),
        pytest.param("/predict", {"instances": [{"a": 1}]}, 422, id="a row without a feature"),
        pytest.param("/predict", {"instances": [[1, 2]] * 11}, 413, id="too many rows"),
        pytest.param("/predict", {"instances": [[0.1234567, 2]] * 99}, 413, id="too many bytes"),
    ],
)
async def test_the_fast_path_and_the_framework_answer_alike(client, path, body, status):
    quick = await client.http.post(path, json=body)
    client.app.fast.clear()
    framed = await client.http.post(path, json=body)
    assert quick.status_code == framed.status_code == status
    assert quick.content == framed.content
    own = {"x-request-id", "content-length"}
    assert {k: v for k, v in quick.headers.items() if k not in own} == {
        k: v for k, v in framed.headers.items() if k not in own
    }
    assert all(answer.headers["x-request-id"] for answer in (quick, framed))


async def test_the_paths_of_the_fast_path_are_routes_of_the_framework(client):
    documented = (await client.http.get("/openapi.json")).json()["paths"]
    # In the document of a model that gives embeddings, or is explained, only.
    others = {"/v1/embeddings", "/explain", "/v1/models/m:explain"}
    assert client.app.fast.keys() - others <= documented.keys()


async def test_an_error_that_nobody_foresaw_is_answered_as_json(client):
    @client.app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret")

    answer = await client.http.get("/broken")
    assert (answer.status_code, answer.json()["reason"]) == (500, "PredictionError")
    assert "secret" not in answer.text


async def test_a_head_is_a_get_without_its_body(client):
    assert (await client.http.head("/livez")).status_code == 200
    refused = await client.http.head("/predict")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


async def test_a_draining_server_ends_connections_on_both_ways(client):
    client.app.plane.lifecycle.drain()
    assert (await client.http.post("/predict", json=ROW)).headers["connection"] == "close"
    assert (await client.http.get("/livez")).headers["connection"] == "close"
