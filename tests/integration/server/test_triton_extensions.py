"""Triton's extensions: what was answered, counted and timed, and loading models where there is one."""

from __future__ import annotations

import grpc
import pytest
from free_ports import free_port

from model_server.grpc.messages import SERVICE, message


@pytest.fixture
def server(serve, sign):
    port = free_port()
    server = serve(sign, trusted=True, name="sign", version="2", grpc_port=port).wait_ready()
    server.grpc_port = port
    return server


def over_grpc(server, **fields):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/ModelStatistics",
            request_serializer=message("ModelStatisticsRequest").SerializeToString,
            response_deserializer=message("ModelStatisticsResponse").FromString,
        )
        return call(message("ModelStatisticsRequest")(**fields), timeout=10)


def test_statistics_count_rows_calls_successes_and_failures(server):
    before = server.client.get("/v2/models/sign/stats").json()["model_stats"][0]
    for rows in (1, 3):
        assert server.client.post("/predict", json={"instances": [[1, 2]] * rows}).status_code == 200
    assert server.client.post("/predict", json={"instances": [["x", 2]]}).status_code == 422
    (found,) = server.client.get("/v2/models/sign/versions/2/stats").json()["model_stats"]
    assert (found["name"], found["version"], found["batch_stats"]) == ("sign", "2", [])
    assert found["inference_count"] - before["inference_count"] == 4
    assert found["execution_count"] - before["execution_count"] == 2
    parts = found["inference_stats"]
    assert {name: part["count"] for name, part in parts.items()} == {
        "success": 2, "fail": 1, "queue": 2, "compute_input": 2, "compute_infer": 2, "compute_output": 2,
    }  # fmt: skip
    assert all(part["ns"] > 0 for part in parts.values())
    inside = sum(parts[name]["ns"] for name in ("compute_input", "compute_infer", "compute_output"))
    assert inside <= parts["success"]["ns"]

    told = over_grpc(server, name="sign").model_stats[0]
    assert (told.inference_count, told.execution_count) == (found["inference_count"], found["execution_count"])
    assert told.inference_stats.success.ns == parts["success"]["ns"]
    assert server.client.get("/v2/models/stats").json()["model_stats"][0]["inference_stats"] == parts
    assert over_grpc(server).model_stats[0].name == "sign"


def test_statistics_of_another_model_are_not_here(server):
    assert server.client.get("/v2/models/other/stats").status_code == 404
    with pytest.raises(grpc.RpcError) as caught:
        over_grpc(server, name="other")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_served_model_is_loaded_already(server):
    # What tritonclient sends: an empty object, or none.
    for content in (b"{}", b""):
        answer = server.client.post("/v2/repository/models/sign/load", content=content)
        assert (answer.status_code, answer.content) == (200, b"")
    assert server.client.get("/v2/models/sign/ready").status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        pytest.param("other/load", {}, 404, "UnknownModel", id="another model"),
        pytest.param("sign/load", {"parameters": {"config": "{}"}}, 422, "InvalidInput", id="another configuration"),
        pytest.param("sign/load", [], 400, "MalformedRequest", id="a list"),
        pytest.param("sign/unload", {}, 400, "OperationNotSupported", id="unloading"),
        pytest.param("other/unload", {}, 404, "UnknownModel", id="unloading another model"),
    ],
)
def test_what_the_repository_does_not_do_is_refused(server, path, body, status, reason):
    answer = server.client.post(f"/v2/repository/models/{path}", json=body)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)


def test_a_model_that_is_called_stats_keeps_its_metadata(serve, sign):
    server = serve(sign, trusted=True, name="stats").wait_ready()
    assert server.client.get("/v2/models/stats").json()["name"] == "stats"
    assert server.client.get("/v2/models/stats/stats").json()["model_stats"][0]["name"] == "stats"
