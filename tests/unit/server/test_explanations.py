"""Explanations run behind predictions, one at a time, and are counted apart."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from waiting import until

from model_server.auth import AllowAll
from model_server.batching import Batcher, BatchLimits
from model_server.dataplane import DataPlane
from model_server.domain.explanations import ExplanationKind
from model_server.domain.features import Feature, Metadata, ReferenceFeature
from model_server.domain.model import Identity, LoadedModel, Signature
from model_server.explanations import ExplanationLimits, ExplanationMetrics, Explanations
from model_server.http.app import create_app
from model_server.http.body import RequestLimits
from model_server.inputs.matrix import Matrix
from model_server.lifecycle import Lifecycle, ServingModel
from model_server.monitoring.monitor import Monitor
from model_server.runtimes.explaining.direct import DirectExplainer
from model_server.runtimes.explaining.selection import make_explainer
from model_server.runtimes.tables import as_matrix
from model_server.settings import Settings
from model_server.telemetry import Telemetry
from model_server.tracing import PropagateOnlyTracer

FEATURES = (Feature(name="a"), Feature(name="b"))
PROFILE = {name: ReferenceFeature(edges=(0, 2, 4), counts=(1, 3)) for name in ("a", "b")}
ROW = {"instances": [{"a": 1, "b": 2}]}
TENSOR = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}


class Product:
    """Multiplies the features; notes its calls, and can be held up in those of explanations, which have more rows."""

    signature = Signature()
    probability_output = ""
    classes = ()
    runs_inline = True

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.released = threading.Event()
        self.released.set()
        self.held = threading.Event()

    def predict(self, inputs, *, probabilities):
        (rows,) = inputs.values()
        if len(rows) > 8 and not self.released.is_set():
            self.held.set()
            self.released.wait(10)
        self.calls.append(len(rows))
        return {"predict": np.prod(rows, axis=1)}


@asynccontextmanager
async def served(*, explained=True, max_queue=2, explainer=None):
    """The application with a model that is explained by sampling, without a socket."""
    telemetry, lifecycle, model = Telemetry(), Lifecycle(), Product()
    plane = DataPlane(lifecycle, telemetry, PropagateOnlyTracer(), AllowAll(), name="m", max_rows=10)
    app = create_app(plane, telemetry, RequestLimits(max_bytes=10_000, timeout_seconds=5))
    metadata = Metadata(input_features=FEATURES, reference_profile=PROFILE)
    adapter = Matrix("x", FEATURES, np.dtype(np.float64))
    if explained and explainer is None:
        explainer = make_explainer(model, adapter, metadata, budget=1024)
    identity = Identity(model="m", version="1", revision="r")
    loaded = LoadedModel(
        identity=identity, metadata=metadata, adapter=adapter, model=model, outputs=(), explainer=explainer
    )
    telemetry.loaded(identity)
    limits = BatchLimits(max_rows=8, max_delay_seconds=0, max_queue=8, timeout_seconds=5)
    batcher = Batcher(model, limits, telemetry)
    explanations = None
    if explainer is not None:
        own = ExplanationLimits(max_rows=3, max_queue=max_queue, timeout_seconds=5)
        explanations = Explanations(loaded, explainer, batcher, own, ExplanationMetrics(telemetry))
    monitor = Monitor(loaded, Settings(storage_uri="file:///m", input_log_sample_rate=1), telemetry)
    lifecycle.serve(ServingModel(loaded, batcher, monitor, explanations))
    telemetry.ready(True)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
        yield SimpleNamespace(
            http=http, model=model, telemetry=telemetry, monitor=monitor, explanations=explanations, batcher=batcher
        )
    plane.close()
    lifecycle.close()


def samples(telemetry, name, label="revision"):
    """The values of one metric that are not zero, by a label."""
    found = [sample for metric in telemetry.registry.collect() for sample in metric.samples if sample.name == name]
    return {sample.labels[label]: sample.value for sample in found if sample.value}


async def test_an_explanation_adds_up():
    async with served() as server:
        answer = (await server.http.post("/explain", json=ROW)).json()
    (row,) = answer["explanations"]
    assert row["contributions"].keys() == row["standard_errors"].keys() == {"a", "b"}
    assert row["base_value"] + sum(row["contributions"].values()) == pytest.approx(row["output"])
    assert row["output"] == 2
    # The reference is 1 or 3, with odds of one to three: the mean of the product is 6.25.
    assert row["base_value"] == pytest.approx(6.25, abs=0.6)
    assert (answer["method"], answer["scale"], answer["model_version"]) == ("permutation sampling", "prediction", "1")


async def test_each_protocol_explains_alike():
    async with served() as server:
        own = (await server.http.post("/explain", json=ROW)).json()
        first = (await server.http.post("/v1/models/m:explain", json=ROW)).json()
        version = (await server.http.post("/v1/models/m/versions/1:explain", json=ROW)).json()
        body = {"inputs": [TENSOR], "parameters": {"explain": True}, "id": "7"}
        second = (await server.http.post("/v2/models/m/infer", json=body)).json()
    assert own == first == version
    (row,) = own["explanations"]
    outputs = {output["name"]: output for output in second["outputs"]}
    assert outputs["contributions"]["data"] == list(row["contributions"].values())
    assert outputs["contributions"]["shape"] == [1, 1, 2]
    assert outputs["features"]["data"] == ["a", "b"]
    assert outputs["base_value"]["data"] == [row["base_value"]]
    assert second["parameters"] == {"method": "permutation sampling", "scale": "prediction"}
    assert second["id"] == "7"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/explain", ROW, id="own"),
        pytest.param("/v2/models/m/infer", {"inputs": [TENSOR], "parameters": {"explain": True}}, id="V2"),
    ],
)
async def test_an_explanation_is_no_prediction(path, body):
    async with served() as server:
        assert (await server.http.post(path, json=body)).status_code == 200
        assert (await server.http.post("/explain", json={"instances": []})).status_code == 422
        await server.monitor.tick()
        for name in ("modeldeploy_requests_total", "modeldeploy_refusals_total", "modeldeploy_requests_in_flight"):
            assert samples(server.telemetry, name) == {}
        for name in ("modeldeploy_request_duration_seconds_count", "modeldeploy_batch_rows_count"):
            assert samples(server.telemetry, name) == {}
        assert samples(server.telemetry, "modeldeploy_outputs_total") == {}
        assert samples(server.telemetry, "modeldeploy_explanations_total", "code") == {"200": 1, "422": 1}
        assert samples(server.telemetry, "modeldeploy_explanation_duration_seconds_count") == {"r": 2}


async def test_predictions_go_first():
    async with served() as server:
        model = server.model
        model.released.clear()
        model.calls.clear()
        explained = asyncio.create_task(server.http.post("/explain", json={"instances": [[1, 2]] * 3}))
        await until(model.held.is_set)
        # While one call of the explanation runs, three predictions come; more of its calls are still to be made.
        predicted = [asyncio.create_task(server.http.post("/predict", json=ROW)) for _ in range(3)]
        await until(lambda: server.batcher.waiting == 3)
        model.released.set()
        answers = [(await one).json()["predictions"] for one in predicted]
        assert answers == [[2.0]] * 3
        assert (await explained).status_code == 200
    # The call that ran, with the row's own answer before it; then the three predictions in one; then all others.
    assert 3 in model.calls[1:4]
    assert len(model.calls[model.calls.index(3) :]) > 5


async def test_a_direct_explanation_that_hangs_holds_up_no_prediction():
    released, begun = threading.Event(), threading.Event()

    def contribute(rows):
        begun.set()
        released.wait(10)
        return np.zeros(1), np.asarray(rows)[:, None, :]

    explainer = DirectExplainer(
        kind=ExplanationKind(method="linear", scale="prediction"),
        form=as_matrix, contribute=contribute, scores=np.prod, reference_rows=lambda _: None,
    )  # fmt: skip
    async with served(explainer=explainer) as server:
        explained = asyncio.create_task(server.http.post("/explain", json=ROW))
        await until(begun.is_set)
        assert (await server.http.post("/predict", json=ROW)).json()["predictions"] == [2.0]
        assert not explained.done()
        released.set()
        assert (await explained).json()["explanations"][0]["contributions"] == {"a": 1, "b": 2}


async def test_more_than_may_wait_are_refused():
    async with served(max_queue=2) as server:
        server.model.released.clear()
        waiting = [asyncio.create_task(server.http.post("/explain", json=ROW)) for _ in range(2)]
        await until(server.model.held.is_set)
        await until(lambda: server.explanations.waiting == 2)
        refused = await server.http.post("/explain", json=ROW)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["error"] == "2 explanations are waiting already"
        server.model.released.set()
        assert [(await one).status_code for one in waiting] == [200, 200]


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        pytest.param("/explain", {"instances": [[1, 2]] * 4}, 413, "4 rows, and 3 are allowed", id="too many rows"),
        pytest.param("/explain", {"instances": [{"a": 1, "c": 2}]}, 422, "[0].c: is not a feature", id="a name"),
        pytest.param("/explain", ROW | {"parameters": {}}, 422, "known are instances", id="parameters"),
        pytest.param("/v1/models/other:explain", ROW, 404, "'other' is not served here", id="another model"),
        pytest.param(
            "/v2/models/m/infer",
            {"inputs": [TENSOR | {"shape": [4, 2], "data": [1, 2] * 4}], "parameters": {"explain": True}},
            413, "4 rows, and 3 are allowed", id="too many rows of a tensor",
        ),
        pytest.param(
            "/v2/models/m/infer", {"inputs": [TENSOR], "parameters": {"explain": 1}}, 422, "expected true or false",
            id="no boolean",
        ),
        pytest.param(
            "/v2/models/m/infer",
            {"inputs": [TENSOR], "parameters": {"explain": True}, "outputs": [{"name": "predict"}]},
            422, "leave it out with parameters.explain", id="outputs of a prediction",
        ),
    ],
)  # fmt: skip
async def test_bad_requests_get_a_sentence(path, body, status, sentence):
    async with served() as server:
        answer = await server.http.post(path, json=body)
    assert answer.status_code == status
    assert sentence in answer.json()["error"]


async def test_without_explanations_the_route_says_how_to_turn_them_on():
    async with served(explained=False) as server:
        for path, body in (
            ("/explain", ROW),
            ("/v1/models/m:explain", ROW),
            ("/v2/models/m/infer", {"inputs": [TENSOR], "parameters": {"explain": True}}),
        ):
            answer = await server.http.post(path, json=body)
            assert (answer.status_code, answer.json()["error"]) == (
                404, "explanations are off: set MODEL_SERVER_EXPLANATIONS=true",
            )  # fmt: skip
        paths = (await server.http.get("/openapi.json")).json()["paths"]
        assert not [path for path in paths if "explain" in path]
        assert (await server.http.get("/explain/importance")).status_code == 404


async def test_the_importance_of_features_is_a_metric_and_an_answer():
    async with served() as server:
        server.explanations.begin()
        await server.explanations.rated()
        answer = (await server.http.get("/explain/importance")).json()
        assert answer["importance"].keys() == {"a", "b"}
        assert list(answer["importance"].values()) == sorted(answer["importance"].values(), reverse=True)
        shown = samples(server.telemetry, "modeldeploy_feature_importance", "feature")
        assert shown == pytest.approx(answer["importance"])
        assert samples(server.telemetry, "modeldeploy_explanations_total") == {}


async def test_the_importance_is_not_known_at_once():
    async with served() as server:
        server.model.released.clear()
        server.explanations.begin()
        answer = await server.http.get("/explain/importance")
        assert (answer.status_code, answer.json()["reason"]) == (503, "ModelNotReady")
        server.model.released.set()
        await server.explanations.rated()
