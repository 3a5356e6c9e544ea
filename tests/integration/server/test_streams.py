"""Answers in steps: `predict_stream` of a model.py over server-sent events and gRPC."""

from __future__ import annotations

import json

import grpc
import numpy as np
import pytest
from free_ports import free_port

from model_server.grpc.messages import SERVICE, message

# Counts up to the first feature; what it was asked for and how it ended is in a file beside it.
COUNTER = """
from pathlib import Path

LOG = Path(__file__).with_name("log")


def load_model(path):
    return None


def predict(model, inputs):
    return inputs[:, 0].astype(int)


def predict_stream(model, inputs):
    try:
        for step in range(int(inputs[0, 0])):
            if step == 5:
                raise ValueError("five is too many")
            if step == 4 and len(inputs) > 1:
                yield [step]
            yield {"count": [step] * len(inputs), "text": [f"step {step}"] * len(inputs)}
    finally:
        with LOG.open("a") as log:
            log.write("closed\\n")
"""


@pytest.fixture(scope="module")
def counter(run_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("counter")
    (folder / "model.py").write_text(COUNTER)
    (folder / "model.yaml").write_text("input_features: [{name: n, example: 2}, {name: other, example: 0}]")
    port = free_port()
    with run_server(tmp_path_factory.mktemp("server"), f"file://{folder}", trusted=True, grpc_port=port) as server:
        server.grpc_port = port
        server.folder = folder
        yield server.wait_ready()


def request_for(*counts):
    data = [value for count in counts for value in (count, 0)]
    return {"inputs": [{"name": "x", "shape": [len(counts), 2], "datatype": "FP64", "data": data}]}


def events_of(answer):
    return [json.loads(event.removeprefix("data: ")) for event in answer.text.split("\n\n") if event]


def values(response, name):
    return next(output["data"] for output in response["outputs"] if output["name"] == name)


def test_each_step_is_an_event(counter):
    answer = counter.client.post("/v2/models/model/infer_stream", json={"id": "7", **request_for(3)})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-request-id"]
    events = events_of(answer)
    assert [values(event, "count") for event in events] == [[0], [1], [2]]
    assert values(events[2], "text") == ["step 2"]
    assert {(event["model_name"], event["id"]) for event in events} == {("model", "7")}
    assert counter.client.post("/v2/models/model/infer", json=request_for(3)).json()["outputs"][0]["data"] == [3]


def test_a_stream_without_steps_is_empty(counter):
    answer = counter.client.post("/v2/models/model/infer_stream", json=request_for(0))
    assert (answer.status_code, answer.text) == (200, "")


def test_a_failure_between_steps_is_the_last_event(counter):
    *steps, last = events_of(counter.client.post("/v2/models/model/infer_stream", json=request_for(9)))
    assert len(steps) == 5
    assert (last["reason"], "five is too many" in last["error"]) == ("InputRefused", True)
    *steps, last = events_of(counter.client.post("/v2/models/model/infer_stream", json=request_for(9, 9)))
    assert len(steps) == 4
    assert last["error"] == "the model answered 1 for 2 rows in predict"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        pytest.param("other", request_for(1), 404, id="another model"),
        pytest.param("model", {"inputs": []}, 422, id="no inputs"),
        pytest.param("model", [], 400, id="a list"),
        pytest.param("model", {**request_for(1), "parameters": {"binary_data_output": True}}, 422, id="bytes"),
    ],
)
def test_what_is_refused_before_the_first_step_has_a_status(counter, path, body, status):
    answer = counter.client.post(f"/v2/models/{path}/infer_stream", json=body)
    assert answer.status_code == status
    assert answer.json()["reason"]


def test_a_client_that_leaves_ends_the_generator(counter):
    log = counter.folder / "log"
    before = log.read_text().count("closed") if log.exists() else 0
    with counter.client.stream("POST", "/v2/models/model/infer_stream", json=request_for(4)) as answer:
        next(answer.iter_lines())
    counter.wait_until(lambda: log.exists() and log.read_text().count("closed") == before + 1)
    assert counter.client.post("/predict", json={"instances": [[2, 0]]}).json()["predictions"] == [2]


def test_other_models_answer_in_one_step(wine_server, wine):
    rows = wine.rows[:2]
    tensor = {"name": "x", "shape": [2, 13], "datatype": "FP64", "data": rows.reshape(-1).tolist()}
    for path in ("/v2/models/wine/infer_stream", "/v2/models/wine/versions/3/infer_stream"):
        (event,) = events_of(wine_server.client.post(path, json={"inputs": [tensor]}))
        assert values(event, "predict") == wine.model.predict(rows).tolist()


def stream(port, requests, metadata=None):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream(
            f"/{SERVICE}/ModelStreamInfer",
            request_serializer=message("ModelInferRequest").SerializeToString,
            response_deserializer=message("ModelStreamInferResponse").FromString,
        )
        return list(call(iter(requests), timeout=20, metadata=metadata))


def asked(count, *, name="model", identifier=""):
    row = np.array([[count, 0.0]])
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 2]}
    return message("ModelInferRequest")(
        model_name=name, id=identifier, inputs=[tensor], raw_input_contents=[row.tobytes()]
    )


def test_grpc_answers_each_request_of_a_stream_in_its_steps(counter):
    requests = [asked(2, identifier="a"), asked(1, name="other"), asked(1, identifier="b")]
    answers = stream(counter.grpc_port, requests)
    assert [one.infer_response.id for one in answers] == ["a", "a", "", "b"]
    assert "model 'other' is not served here" in answers[2].error_message
    raw = [one.infer_response.raw_output_contents[0] for one in answers if not one.error_message]
    assert [np.frombuffer(part, np.int64).tolist() for part in raw] == [[0], [1], [0]]


def test_streams_are_counted_as_requests(counter):
    def count():
        return counter.client.get("/v2/models/model/stats").json()["model_stats"][0]["inference_stats"]

    before = count()
    counter.client.post("/v2/models/model/infer_stream", json=request_for(2))
    counter.client.post("/v2/models/model/infer_stream", json=request_for(9))
    counter.wait_until(lambda: count()["fail"]["count"] == before["fail"]["count"] + 1)
    assert count()["success"]["count"] == before["success"]["count"] + 1


def test_keys_guard_streams(serve, sign, tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "alice").write_text("k1")
    port = free_port()
    server = serve(sign, trusted=True, grpc_port=port, auth_dir=tmp_path / "keys").wait_ready()
    body = request_for(1)
    assert server.client.post("/v2/models/model/infer_stream", json=body).status_code == 401
    assert server.client.get("/v2/models/model/stats").status_code == 401
    assert server.client.post("/v2/repository/models/model/unload").status_code == 401
    answer = server.client.post("/v2/models/model/infer_stream", json=body, headers={"x-api-key": "k1"})
    assert values(events_of(answer)[0], "predict") == [1]
    assert "needs an API key" in stream(port, [asked(1)])[0].error_message
    assert not stream(port, [asked(1)], metadata=(("x-api-key", "k1"),))[0].error_message


def test_a_predict_stream_that_takes_other_arguments_is_refused(serve, tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "model.py").write_text("def load_model(path): ...\ndef predict(m, i): ...\ndef predict_stream(m): ...\n")
    server = serve(f"file://{folder}", trusted=True)
    assert server.wait_exit() != 0
    assert "predict_stream in model.py does not take 2 arguments" in server.termination()["message"]
