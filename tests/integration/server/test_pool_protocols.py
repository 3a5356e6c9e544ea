"""What a pool has in common with a server of one model: keys and their limits, explanations, gRPC, process metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from free_ports import free_port
from pooled import PoolOf, package
from sklearn.linear_model import LogisticRegression

from model_server.grpc.messages import SERVICE, message
from model_server.pool.usage import cpu_seconds

INSTANCES = {"instances": [[0.0]]}
INFER = {"inputs": [{"name": "what", "shape": [1, 1], "datatype": "FP64", "data": [0.0]}]}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "ann").write_text("key of ann")
    (folder / "bob").write_text("key of bob")
    return folder


def test_every_path_but_the_probes_asks_for_a_key(pool: Callable[..., PoolOf], tmp_path: Path, keys: Path) -> None:
    protect = {"auth_dir": keys, "auth_protect": "metrics"}
    client = pool(package(tmp_path, 1), server=protect).server.client
    asked: list[tuple[str, str, Any]] = [
        ("POST", "/v2/models/m1/infer", INFER),
        ("POST", "/v1/models/m1:predict", INSTANCES),
        ("POST", "/v1/models/m1:explain", INSTANCES),
        ("GET", "/v2/models/m1", None),
        ("GET", "/v2/models/m1/ready", None),
        ("GET", "/v2/models", None),
        ("POST", "/v2/repository/index", {}),
        ("POST", "/v2/repository/models/m1/load", {}),
        ("POST", "/v2/repository/models/m1/unload", {}),
        ("GET", "/metrics", None),
        ("GET", "/pool", None),
        ("GET", "/pool/models", None),
    ]
    for method, path, body in asked:
        refused = client.request(method, path, json=body)
        assert (refused.status_code, refused.json()["reason"]) == (401, "Unauthorized"), path
        answer = client.request(method, path, json=body, headers={"x-api-key": "key of ann"})
        assert answer.status_code == (404 if "explain" in path else 200), path
    for path in ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready"):
        assert client.get(path).status_code == 200, path


def test_a_key_over_its_limit_is_no_evidence_about_a_model(
    pool: Callable[..., PoolOf], tmp_path: Path, keys: Path
) -> None:
    limits = {"auth_dir": keys, "auth_limits": "ann:rate=0.016:burst=1"}
    running = pool(package(tmp_path, 1), server=limits)

    def ask(name: str) -> httpx.Response:
        headers = {"x-api-key": f"key of {name}"}
        answer: httpx.Response = running.server.client.post("/v1/models/m1:predict", json=INSTANCES, headers=headers)
        return answer

    assert [ask("ann").status_code, ask("ann").status_code, ask("bob").status_code] == [200, 429, 200]
    metrics = running.server.client.get("/metrics").text
    assert 'modeldeploy_key_requests_total{key="ann",model="",outcome="rate",revision="",version=""} 1.0' in metrics
    assert running.metric("modeldeploy_requests_total") == 2
    assert running.metric("modeldeploy_requests_in_flight") == 0


ROWS = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [3.0, 0.0]])


@pytest.fixture
def linear(tmp_path: Path) -> dict[str, Any]:
    """A package whose predictions can be explained."""
    import joblib

    folder = tmp_path / "linear"
    folder.mkdir()
    joblib.dump(LogisticRegression().fit(ROWS, [0, 0, 1, 1]), folder / "model.joblib")
    profile = {}
    for name, column in zip(("a", "b"), ROWS.T, strict=True):
        counts, edges = np.histogram(column, 4)
        profile[name] = {"edges": edges.tolist(), "counts": counts.tolist()}
    features = [{"name": "a"}, {"name": "b"}]
    (folder / "model.yaml").write_text(json.dumps({"input_features": features, "reference_profile": profile}))
    return {"name": "linear", "storageUri": folder.as_uri(), "trusted": True}


def test_pooled_models_are_explained_and_counted_apart(
    pool: Callable[..., PoolOf], tmp_path: Path, linear: dict[str, Any]
) -> None:
    running = pool(linear, package(tmp_path, 1), server={"explanations": True})
    client = running.server.client
    answer = client.post("/v1/models/linear:explain", json={"instances": ROWS.tolist()}).json()
    (first, *_) = answer["explanations"]
    total = first["base_value"] + sum(first["contributions"].values())
    assert total == pytest.approx(first["output"])
    assert set(first["contributions"]) == {"a", "b"}
    tensor = {"name": "x", "shape": [4, 2], "datatype": "FP64", "data": ROWS.reshape(-1).tolist()}
    tensors = client.post("/v2/models/linear/infer", json={"inputs": [tensor], "parameters": {"explain": True}}).json()
    assert {one["name"] for one in tensors["outputs"]} >= {"contributions", "base_value"}
    refused = client.post("/v1/models/m1:explain", json=INSTANCES)
    assert (refused.status_code, "cannot be explained" in refused.text) == (404, True)
    assert client.post("/v1/models/linear:explain", json={"instances": [[1]]}).status_code == 422
    metrics = client.get("/metrics").text
    assert 'modeldeploy_explanations_total{code="200",model="linear"' in metrics
    assert running.metric("modeldeploy_explanations_total") == 4
    assert running.metric("modeldeploy_requests_total") == 0


def test_without_explanations_a_pool_says_how_to_turn_them_on(pool: Callable[..., PoolOf], tmp_path: Path) -> None:
    refused = pool(package(tmp_path, 1)).server.client.post("/v1/models/m1:explain", json=INSTANCES)
    assert (refused.status_code, "MODEL_SERVER_EXPLANATIONS" in refused.text) == (404, True)


@pytest.fixture
def channel(pool: Callable[..., PoolOf], tmp_path: Path) -> Iterator[tuple[PoolOf, grpc.Channel]]:
    port = free_port()
    running = pool(*(package(tmp_path, number) for number in (1, 2)), server={"grpc_port": port})
    with grpc.insecure_channel(f"127.0.0.1:{port}") as found:
        yield running, found


def call(channel: grpc.Channel, method: str, **fields: Any) -> Any:
    stub = channel.unary_unary(
        f"/{SERVICE}/{method}",
        request_serializer=message(f"{method}Request").SerializeToString,
        response_deserializer=message(f"{method}Response").FromString,
    )
    return stub(message(f"{method}Request")(**fields), timeout=10)


def test_grpc_has_the_models_and_the_repository(channel: tuple[PoolOf, grpc.Channel]) -> None:
    running, port = channel
    states = {one.name: one.state for one in call(port, "RepositoryIndex").models}
    assert states == {"m1": "UNAVAILABLE", "m2": "UNAVAILABLE"}
    contents = {"name": "what", "datatype": "FP64", "shape": [1, 1], "contents": {"fp64_contents": [0.0]}}
    answer = call(port, "ModelInfer", model_name="m1", id="a", inputs=[contents])
    assert (answer.model_name, answer.id, list(answer.outputs[0].contents.int64_contents)) == ("m1", "a", [1])
    assert [one.name for one in call(port, "RepositoryIndex", ready=True).models] == ["m1"]
    call(port, "RepositoryModelLoad", model_name="m2")
    call(port, "RepositoryModelUnload", model_name="m1")
    assert running.loaded() == {"m2"}
    assert call(port, "ServerReady").ready
    assert call(port, "ModelReady", name="m1").ready
    assert not call(port, "ModelReady", name="other").ready
    assert call(port, "ModelMetadata", name="m2").inputs[0].name == "input-0"
    for method, fields, code, text in (
        ("ModelInfer", {"model_name": "m3", "inputs": [contents]}, "NOT_FOUND", "'m3' is not in this pool"),
        ("ModelInfer", {"model_name": "m1"}, "INVALID_ARGUMENT", "inputs: is missing"),
        ("RepositoryModelLoad", {"model_name": "m3"}, "NOT_FOUND", "'m3' is not in this pool"),
        ("ModelStatistics", {"name": "m1"}, "UNIMPLEMENTED", "keeps no statistics"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call(port, method, **fields)
        assert (caught.value.code().name, text in caught.value.details()) == (code, True)
    assert running.metric("modeldeploy_requests_total") == 2


def test_a_version_is_asked_for_by_its_name(pool: Callable[..., PoolOf], tmp_path: Path) -> None:
    client = pool({**package(tmp_path, 1), "version": "7"}, package(tmp_path, 2)).server.client
    for path in ("/v2/models/m1/versions/7", "/v2/models/m1/versions/7/ready"):
        assert client.get(path).status_code == 200, path
        other = client.get(path.replace("7", "8"))
        assert (other.status_code, other.json()["hint"]) == (404, "This pool serves '7'.")
    assert client.get("/v2/models/m1/versions/7").json()["versions"] == ["7"]
    for version, code in (("7", 200), ("8", 404)):
        assert client.post(f"/v1/models/m1/versions/{version}:predict", json=INSTANCES).status_code == code
        assert client.post(f"/v2/models/m1/versions/{version}/infer", json=INFER).status_code == code
    # Its version is not known before it is loaded, and may be this one.
    assert client.get("/v2/models/m2/versions/9/ready").status_code == 200


def test_metrics_have_what_all_processes_use(pool: Callable[..., PoolOf], tmp_path: Path) -> None:
    running = pool(package(tmp_path, 1), processes=2)
    text = running.server.client.get("/metrics").text
    # The front and two processes, each with an interpreter.
    assert running.metric("process_resident_memory_bytes") > 3 * 20 * 2**20
    front = cpu_seconds(running.server.process.pid)
    assert running.metric("process_cpu_seconds_total") > front > 0
    assert re.search(r"^process_start_time_seconds 1\.", text, re.MULTILINE)


def test_a_pool_tells_people_which_models_it_holds(pool: Callable[..., PoolOf], tmp_path: Path) -> None:
    running = pool(*(package(tmp_path, number) for number in (1, 2)), {"name": "gone", "storageUri": "file:///nowhere"})
    client = running.server.client
    assert [running.answer("m1"), running.answer("m1"), running.ask("gone").status_code] == [1, 1, 503]
    said = client.get("/pool").json()
    assert said["models"] == {"unloaded": 1, "loading": 0, "loaded": 1, "failed": 1, "aside": 0}
    assert (said["hits"], said["misses"], said["evictions"], said["overBudget"]) == (1, 2, 0, 0)
    assert 0 < said["memoryBytes"] < said["budgetBytes"] == 2**30
    models = {one["name"]: one for one in client.get("/pool/models").json()}
    assert {name: one["state"] for name, one in models.items()} == {"m1": "loaded", "m2": "unloaded", "gone": "failed"}
    assert (models["m2"]["idleSeconds"], models["gone"]["reason"][:16]) == (None, "ArtifactNotFound")
