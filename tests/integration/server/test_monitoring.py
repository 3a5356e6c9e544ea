"""What a running server shows of its model's work."""

from __future__ import annotations

import json
import shutil

import http_servers
import numpy as np
import pytest
import yaml


def metric(server, name, **labels):
    for line in server.client.get("/metrics").text.splitlines():
        if line.startswith(name + "{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
            return float(line.rsplit(" ", 1)[1])
    return None


def test_labels_give_quality(wine_server, wine):
    rows = wine.rows[::10]
    predicted = wine.model.predict(rows).tolist()
    labels = [int(label) for label in predicted]
    labels[0] = (labels[0] + 1) % 3
    post = wine_server.client.post
    body = {"instances": rows.tolist(), "parameters": {"probabilities": True}}
    identifier = post("/predict", json=body).headers["x-request-id"]
    assert post("/feedback", json={"id": identifier, "label": labels}).status_code == 200
    assert metric(wine_server, "modeldeploy_feedback_total", outcome="correct") == len(rows) - 1
    assert metric(wine_server, "modeldeploy_feedback_total", outcome="wrong") == 1
    assert metric(wine_server, "modeldeploy_quality", metric="accuracy") == pytest.approx(1 - 1 / len(rows))
    assert metric(wine_server, "modeldeploy_quality", metric="f1") < 1
    assert metric(wine_server, "modeldeploy_quality", metric="log_loss") > 0
    again = post("/feedback", json={"id": identifier, "label": labels})
    assert (again.status_code, again.json()["reason"]) == (404, "UnknownPrediction")


def test_conversions_and_direct_labels_are_counted(wine_server):
    post = wine_server.client.post
    before = metric(wine_server, "modeldeploy_feedback_total", outcome="correct") or 0
    assert post("/feedback", json={"prediction": 1, "label": 1}).status_code == 200
    assert post("/feedback", json={"conversion": True}).status_code == 200
    assert metric(wine_server, "modeldeploy_feedback_total", outcome="correct") == before + 1
    assert metric(wine_server, "modeldeploy_conversions_total", converted="true") == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({}, "label: is missing", id="nothing"),
        pytest.param({"label": 1}, "id: expected", id="a label for nothing"),
        pytest.param({"label": 9, "prediction": 1}, "label: expected one of 0, 1, 2, got 9", id="no such class"),
        pytest.param({"conversion": "yes"}, "conversion: expected true or false", id="a conversion in words"),
        pytest.param({"lable": 1, "conversion": True}, "lable: is not a field", id="a misspelt field"),
    ],
)
def test_bad_feedback_is_named(wine_server, body, message):
    answer = wine_server.client.post("/feedback", json=body)
    assert answer.status_code == 422
    assert message in answer.json()["error"]


def test_outputs_and_drift_are_shown(serve, sign):
    server = serve(sign, trusted=True, drift_reference="500").wait_ready()
    rows = np.random.default_rng(5).normal(size=(800, 2))
    server.client.post("/predict", json={"instances": rows.tolist()})
    server.wait_until(lambda: metric(server, "modeldeploy_outputs_total", output="0") is not None)
    server.client.post("/predict", json={"instances": (rows + np.array([0, 5])).tolist()})
    server.wait_until(lambda: metric(server, "modeldeploy_drifted", feature="secret") == 1)
    assert metric(server, "modeldeploy_drifted", feature="a") == 0
    positive = int((rows[:, 0] > 0).sum())
    assert metric(server, "modeldeploy_outputs_total", output="1") == 2 * positive
    assert metric(server, "modeldeploy_outputs_total", output="0") == 1600 - 2 * positive


def test_an_estimate_sees_probabilities_that_no_client_asked_for(serve, wine, tmp_path):
    folder = tmp_path / "calibrated"
    shutil.copytree(wine.folder, folder)
    document = yaml.safe_load((folder / "model.yaml").read_text())
    table = {"probabilities": [0.3, 1.0], "shares": [0.5, 0.9]}
    calibration = {"rows": 500, "classes": [0, 1, 2], "tables": [table], "error": 0.01, "raw_error": 0.1}
    edges = [float(wine.rows[:, 0].min()), 13.0, float(wine.rows[:, 0].max())]
    profile = {wine.names[0]: {"edges": edges, "counts": np.histogram(wine.rows[:, 0], edges)[0].tolist()}}
    document |= {"calibration": calibration, "reference_profile": profile}
    (folder / "model.yaml").write_text(yaml.safe_dump(document))
    server = serve(f"file://{folder}", trusted=True, estimated_quality=True).wait_ready()
    rows = np.concatenate([wine.rows, wine.rows])
    v1 = server.client.post("/predict", json={"instances": rows.tolist()})
    assert v1.json().keys() & {"probabilities", "classes"} == set()
    assert v1.json()["predictions"] == wine.model.predict(rows).tolist()
    tensor = {"name": "predict", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    v2 = server.client.post("/v2/models/model/infer", json={"inputs": [tensor]})
    assert len(v2.json()["outputs"]) == 1
    server.wait_until(lambda: metric(server, "modeldeploy_estimated_rows") == 2 * len(rows))
    assert metric(server, "modeldeploy_estimate_trusted") == 1
    low, value, high = (
        metric(server, f"modeldeploy_estimated_quality{end}", metric="accuracy") for end in ("_low", "", "_high")
    )
    assert 0.5 < low < value < high < 0.95


class Events(http_servers.Handler):
    received: list[dict]

    def do_POST(self):
        self.received += json.loads(self.body())
        self.answer(status=202)


@pytest.fixture
def events():
    handler = type("Handler", (Events,), {"received": []})
    with http_servers.served(handler) as host:
        yield f"http://{host}", handler.received


def test_inputs_are_logged_as_cloud_events_without_what_is_secret(serve, sign, events):
    address, received = events
    settings = {"input_log_sample_rate": 1, "input_log_sink": address, "input_log_redact": "secret"}
    server = serve(sign, trusted=True, **settings).wait_ready()
    body = {"instances": [[1.5, 42], {"a": -1, "secret": 43}]}
    server.client.post("/predict", json=body, headers={"x-request-id": "r-7"})
    server.wait_until(lambda: bool(received))
    (event,) = received
    assert (event["specversion"], event["type"], event["id"]) == ("1.0", "dev.modeldeploy.prediction", "r-7")
    assert event["data"]["inputs"] == [{"a": 1.5, "secret": "[redacted]"}, {"a": -1.0, "secret": "[redacted]"}]
    assert event["data"]["outputs"] == {"predict": [1, 0]}
    server.wait_until(lambda: metric(server, "modeldeploy_input_log_written_total") == 1)


def test_inputs_are_logged_to_storage_and_a_dead_sink_harms_nobody(serve, sign, tmp_path):
    to_disk = serve(sign, trusted=True, input_log_sample_rate=1, input_log_sink=f"file://{tmp_path}/out").wait_ready()
    to_nobody = serve(sign, trusted=True, input_log_sample_rate=1, input_log_sink="http://127.0.0.1:9/").wait_ready()
    body = {"instances": [[5.1, 42]]}
    assert to_disk.client.post("/predict", json=body).status_code == 200
    assert to_nobody.client.post("/predict", json=body).status_code == 200
    to_disk.wait_until(lambda: bool(list(tmp_path.glob("out/*/*.jsonl"))))
    (file,) = tmp_path.glob("out/*/*.jsonl")
    assert json.loads(file.read_text())["inputs"] == [{"a": 5.1, "secret": 42.0}]
    to_nobody.wait_until(lambda: metric(to_nobody, "modeldeploy_input_log_dropped_total") == 1)


def test_an_unknown_name_to_redact_stops_the_start(serve, sign):
    server = serve(sign, trusted=True, input_log_sample_rate=1, input_log_redact="secrt")
    assert server.wait_exit() == 78
    assert "redacts 'secrt'" in server.termination()["message"]
