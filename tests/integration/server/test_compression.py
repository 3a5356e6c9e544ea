"""Compressed bodies in both directions, IPv6, and what TensorFlow Serving's clients send."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from functools import partial

import grpc
import httpx
import numpy as np
import pytest
from free_ports import free_port
from grpc_health.v1 import health_pb2, health_pb2_grpc
from waiting import wait_until

ROWS = b'{"instances": [[1, 0], [-1, 0]]}'
WIDE = """
import numpy as np
def load_model(path): return None
def predict(model, inputs): return np.repeat(inputs, 20_000, axis=1)
"""


@pytest.fixture(scope="module")
def wide_server(tmp_path_factory, run_server):
    """Answers of 100 kB and more."""
    folder = tmp_path_factory.mktemp("wide")
    (folder / "model.py").write_text(WIDE)
    (folder / "model.yaml").write_text("version: '3'\ninput_features: [{name: a}, {name: b}]")
    with run_server(
        tmp_path_factory.mktemp("server"), f"file://{folder}", trusted=True, max_request_bytes=100_000
    ) as server:
        yield server.wait_ready()


def post(server, body, path="/predict", **headers):
    sent = {"content-type": "application/json", "accept-encoding": "identity"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return server.client.post(path, content=body, headers=sent)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "identity", "GZIP"])
@pytest.mark.parametrize("path", ["/predict", "/v1/models/model:predict", "/v1/models/model/versions/3:predict"])
def test_a_compressed_request(wide_server, encoding, path):
    body = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}
    answer = post(wide_server, body[encoding.lower()](ROWS), path, content_encoding=encoding)
    assert answer.status_code == 200
    assert answer.json()["predictions"][1][0] == -1


def test_a_compressed_request_of_tensors_whose_head_is_measured_as_it_was(wide_server):
    head = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "parameters": {"binary_data_size": 16}}]}
    head["outputs"] = [{"name": "predict", "parameters": {"binary_data": True}}]
    text = json.dumps(head).encode()
    body = gzip.compress(text + np.array([1.0, 2.0]).tobytes())
    answer = post(
        wide_server,
        body,
        "/v2/models/model/infer",
        content_encoding="gzip",
        inference_header_content_length=str(len(text)),
        accept_encoding="gzip",
    )
    end = int(answer.headers["inference-header-content-length"])
    assert answer.headers["content-encoding"] == "gzip"
    assert np.frombuffer(answer.content[end:], np.float64)[[0, -1]].tolist() == [1, 2]


def test_a_compressed_table_of_text(wide_server):
    answer = post(
        wide_server, gzip.compress(b"a,b\n1,2\n"), "/invocations", content_encoding="gzip", content_type="text/csv"
    )
    assert answer.json()["predictions"][0][-1] == 2


@pytest.mark.parametrize(
    ("body", "encoding", "status", "text"),
    [
        pytest.param(ROWS, "gzip", 400, "is not gzip", id="not compressed"),
        pytest.param(gzip.compress(ROWS)[:-9], "gzip", 400, "one whole gzip stream", id="cut short"),
        pytest.param(gzip.compress(ROWS) + b"x", "gzip", 400, "one whole gzip stream", id="more behind it"),
        pytest.param(b"", "gzip", 400, "one whole gzip stream", id="nothing"),
        pytest.param(gzip.compress(b" " * 10**8), "gzip", 413, "when it is decompressed", id="a bomb"),
        pytest.param(ROWS, "br", 415, "Send gzip, deflate, or it plain", id="another encoding"),
        pytest.param(ROWS, "gzip, gzip", 415, "not read here", id="twice"),
    ],
)
def test_a_body_that_is_not_what_its_encoding_says(wide_server, body, encoding, status, text):
    answer = post(wide_server, body, content_encoding=encoding)
    assert (answer.status_code, text in answer.text) == (status, True), answer.text


@pytest.mark.parametrize(
    ("accepts", "is_compressed"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("br", False),
        ("identity", False),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/v1/models/model/versions/3:predict"])
def test_a_large_answer_is_compressed_for_who_takes_it(wide_server, accepts, is_compressed, path):
    answer = post(wide_server, ROWS, path, accept_encoding=accepts)
    assert (answer.headers.get("content-encoding") == "gzip") is is_compressed
    assert ("vary" in answer.headers) is is_compressed
    assert answer.json()["predictions"][0][0] == 1


def test_a_small_answer_is_not(wine_server, wine):
    answer = post(wine_server, json.dumps({"instances": wine.rows[:1].tolist()}).encode(), accept_encoding="gzip")
    assert "content-encoding" not in answer.headers


def test_a_version_that_is_not_served(wide_server):
    assert post(wide_server, ROWS, "/v1/models/model/versions/4:predict").status_code == 404


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_every_address_of_ipv6_is_one_of_ipv4_too(serve, sign):
    grpc_port, shadow_port = free_port(), free_port()
    server = serve(sign, trusted=True, host="::", grpc_port=grpc_port, shadow_port=shadow_port).wait_ready()
    for host in ("127.0.0.1", "[::1]"):
        with httpx.Client(base_url=f"http://{host}:{server.port}", trust_env=False) as client:
            assert client.post("/predict", json={"instances": [[1, 0]]}).json()["predictions"] == [1]
            assert "modeldeploy_requests_total" in client.get("/metrics").text
            looked = client.post(f"http://{host}:{shadow_port}/shadow/predictions", json={"every": 1, "seconds": 1})
            assert looked.status_code == 200
        with grpc.insecure_channel(f"{host}:{grpc_port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            is_serving = partial(_is_serving, stub)
            wait_until(is_serving, f"gRPC serves at {host}")  # it may follow HTTP by a moment


def _is_serving(stub: health_pb2_grpc.HealthStub) -> bool:
    status = stub.Check(health_pb2.HealthCheckRequest()).status
    return bool(status == health_pb2.HealthCheckResponse.SERVING)


@pytest.mark.parametrize("word", [b"NaN", b"Infinity", b"-Infinity"])
def test_what_python_writes_for_no_number_says_what_to_write(wide_server, word):
    answer = post(wide_server, b'{"instances": [[%s, 1]]}' % word)
    assert (answer.status_code, answer.json()["hint"]) == (400, "JSON has no NaN and no Infinity: write null.")
