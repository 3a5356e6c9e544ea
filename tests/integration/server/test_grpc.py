"""The Open Inference Protocol over gRPC, called as its clients call it."""

from __future__ import annotations

import socket

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from model_server.grpc.messages import SERVICE, message


@pytest.fixture
def channel(wine_server):
    with grpc.insecure_channel(f"127.0.0.1:{wine_server.grpc_port}") as channel:
        yield channel


def call(channel, method, metadata=None, **fields):
    stub = channel.unary_unary(
        f"/{SERVICE}/{method}",
        request_serializer=message(f"{method}Request").SerializeToString,
        response_deserializer=message(f"{method}Response").FromString,
    )
    return stub(message(f"{method}Request")(**fields), timeout=10, metadata=metadata)


def tensor(rows, **contents):
    shape = list(rows.shape)
    return {"name": "x", "datatype": "FP64", "shape": shape, **contents}


def test_the_whole_protocol(channel, wine):
    assert call(channel, "ServerLive").live
    assert call(channel, "ServerReady").ready
    assert call(channel, "ModelReady", name="wine").ready
    assert not call(channel, "ModelReady", name="other").ready
    assert call(channel, "ServerMetadata").name == "modeldeploy"
    described = call(channel, "ModelMetadata", name="wine")
    assert (described.inputs[0].name, list(described.inputs[0].shape)) == ("input-0", [-1, 13])

    rows = wine.rows[:20]
    expected = wine.model.predict(rows).tolist()
    typed = {"fp64_contents": rows.reshape(-1).tolist()}
    answer = call(channel, "ModelInfer", model_name="wine", id="a", inputs=[tensor(rows, contents=typed)])
    assert (answer.model_name, answer.model_version, answer.id) == ("wine", "3", "a")
    assert list(answer.outputs[0].contents.int64_contents) == expected

    wanted = [{"name": "predict"}, {"name": "predict_proba"}]
    raw = call(
        channel,
        "ModelInfer",
        model_name="wine",
        inputs=[tensor(rows)],
        raw_input_contents=[rows.tobytes()],
        outputs=wanted,
    )
    assert np.frombuffer(raw.raw_output_contents[0], np.int64).tolist() == expected
    probabilities = np.frombuffer(raw.raw_output_contents[1], np.float64).reshape(20, 3)
    assert probabilities.tolist() == wine.model.predict_proba(rows).tolist()

    health = health_pb2_grpc.HealthStub(channel)
    # The health service follows the server's tick, once a second.
    for state in health.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=10):
        if state.status == health_pb2.HealthCheckResponse.SERVING:
            break
    assert SERVICE in ProtoReflectionDescriptorDatabase(channel).get_services()

    ones = np.ones((1, 13))
    bad = [
        ({"model_name": "other"}, "NOT_FOUND", "model 'other' is not served here"),
        ({"model_version": "9"}, "NOT_FOUND", "version '9' is not served here"),
        ({"inputs": []}, "INVALID_ARGUMENT", "inputs: is missing"),
        ({"inputs": [tensor(ones, datatype="FP1")]}, "INVALID_ARGUMENT", "inputs[0].datatype: expected one of BOOL"),
        ({"inputs": [tensor(ones)]}, "INVALID_ARGUMENT", "shape [1, 13] needs 13 values, got 0"),
        ({"raw_input_contents": [b"123"]}, "INVALID_ARGUMENT", "13 FP64 values need 104 bytes, got 3"),
        ({"raw_input_contents": [b"1", b"2"]}, "INVALID_ARGUMENT", "expected one for each of 1 inputs, got 2"),
        ({"raw_input_contents": [np.full(13, np.nan).tobytes()]}, "INVALID_ARGUMENT", "expected a number, got"),
        ({"outputs": [{"name": "nope"}]}, "INVALID_ARGUMENT", "expected one of predict, predict_proba, got 'nope'"),
    ]
    good = {"model_name": "wine", "inputs": [tensor(ones)], "raw_input_contents": [ones.tobytes()]}
    for change, status, text in bad:
        if change.get("inputs") is not None:
            change = {"raw_input_contents": [], **change}
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, "ModelInfer", **(good | change))
        assert caught.value.code().name == status
        assert text in caught.value.details()


def test_the_repository_of_one_model_is_listed_and_stays_as_it_is(channel):
    (listed,) = call(channel, "RepositoryIndex").models
    assert (listed.name, listed.version, listed.state, listed.reason) == ("wine", "3", "READY", "")
    call(channel, "RepositoryModelLoad", model_name="wine")
    for method, fields, status in (
        ("RepositoryModelLoad", {"model_name": "other"}, "NOT_FOUND"),
        ("RepositoryModelLoad", {"model_name": "wine", "parameters": {"a": {"bool_param": True}}}, "INVALID_ARGUMENT"),
        ("RepositoryModelUnload", {"model_name": "wine"}, "UNIMPLEMENTED"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, method, **fields)
        assert caught.value.code().name == status


def test_keys_guard_grpc_as_well(serve, sign, tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "alice").write_text("k1")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve(sign, trusted=True, grpc_port=port, auth_dir=tmp_path / "keys").wait_ready()
    rows = np.ones((1, 2))
    infer = {"model_name": "model", "inputs": [tensor(rows)], "raw_input_contents": [rows.tobytes()]}
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, "ModelInfer", **infer)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        answer = call(channel, "ModelInfer", metadata=(("authorization", "Bearer k1"),), **infer)
    assert np.frombuffer(answer.raw_output_contents[0], np.int64).tolist() == [1]


def test_the_trace_of_a_call_is_an_exemplar(channel, wine, wine_server):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    rows = wine.rows[:1]
    call(
        channel,
        "ModelInfer",
        metadata=(("traceparent", f"00-{trace}-00f067aa0ba902b7-01"),),
        model_name="wine",
        inputs=[tensor(rows, contents={"fp64_contents": rows.reshape(-1).tolist()})],
    )
    metrics = wine_server.client.get("/metrics", headers={"accept": "application/openmetrics-text"}).text
    assert f'# {{trace_id="{trace}"}}' in metrics


def test_a_version_is_asked_for_by_its_name(channel):
    assert call(channel, "ModelReady", name="wine", version="3").ready
    assert not call(channel, "ModelReady", name="wine", version="4").ready
    assert call(channel, "ModelMetadata", name="wine").properties["format"] == "sklearn"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        pytest.param({"contents": {"fp64_contents": [1.0] * 13}}, "expected none beside", id="two forms of one tensor"),
        pytest.param({"shape": [1] * 70}, "expected at most 32 sizes", id="seventy dimensions"),
        pytest.param({"shape": [1, -13]}, "rows first", id="a negative size"),
        pytest.param({"shape": [2**40, 2**40]}, "rows first", id="sizes that overflow"),
        pytest.param({"shape": []}, "rows first", id="no size"),
    ],
)
def test_a_request_that_contradicts_itself_is_an_invalid_argument(channel, wine, given, text):
    row = wine.rows[:1]
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, "ModelInfer", model_name="wine", inputs=[tensor(row) | given], raw_input_contents=[row.tobytes()])
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert text in caught.value.details()


HALVES = """
import numpy as np
def load_model(path): return None
def predict(model, inputs): return {"whole": inputs[:, 0], "half": inputs[:, 0].astype(np.float16)}
"""


def test_outputs_come_in_one_form(serve, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "model.py").write_text(HALVES)
    (tmp_path / "package" / "model.yaml").write_text("input_features: [{name: a}, {name: b}]")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve(f"file://{tmp_path}/package", trusted=True, grpc_port=port).wait_ready()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        typed = [{"name": "x", "datatype": "FP64", "shape": [1, 2], "contents": {"fp64_contents": [1, 2]}}]
        answer = call(channel, "ModelInfer", model_name="model", inputs=typed)
    assert [np.frombuffer(answer.raw_output_contents[place], kind)[0] for place, kind in enumerate(("f8", "f2"))] == [
        1,
        1,
    ]
    assert not any(output.contents.ListFields() for output in answer.outputs)
