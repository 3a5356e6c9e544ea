"""Ready means that the model has predicted: its example, a row made up to try it, or a request."""

from __future__ import annotations

from pathlib import Path

import pytest

PICKY = """
import numpy as np

def load_model(path): return None
def predict(model, inputs):
    if not (inputs > 1).all(): raise {error}("only large numbers")
    return inputs[:, 0]
"""


def package(tmp_path: Path, code: str, described: str = "input_features: [{name: a}, {name: b}]") -> str:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "model.py").write_text(code)
    if described:
        (folder / "model.yaml").write_text(described)
    return f"file://{folder}"


def wait_warming(server) -> None:
    """Until the model has failed on the made-up row."""
    server.wait_until(lambda: server.phase() == "warming" and "made-up" in server.client.get("/readyz").text)


def metric(server, name: str) -> float:
    lines = server.client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


@pytest.mark.parametrize("error", ["ValueError", "KeyError", "SystemExit"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_fails_on_a_made_up_row_is_ready_after_the_first_request_it_answers(
    serve, tmp_path, error, workers
):
    server = serve(package(tmp_path, PICKY.format(error=error)), trusted=True, workers=workers)
    wait_warming(server)
    answer = server.client.get("/readyz")
    assert (answer.status_code, answer.json()["phase"]) == (503, "warming")
    assert f"{error}: " in answer.json()["message"]
    assert "give an example" in answer.json()["message"]
    assert metric(server, "modeldeploy_model_predicted{") == 0
    assert server.client.post("/predict", json={"instances": [[-1, 2]]}).status_code in (422, 500)
    assert server.phase() == "warming"
    server.wait_until(lambda: server.client.post("/predict", json={"instances": [[2, 3]]}).status_code == 200)
    server.wait_ready()
    assert server.client.get("/v2/health/ready").json() == {"ready": True}
    assert metric(server, "modeldeploy_model_predicted{") == 1


WRONG_SHAPE = """
def load_model(path): return None
def predict(model, inputs): return [1, 2, 3]
"""


def test_an_answer_that_is_not_one_prediction_a_row_is_a_failed_warm_up(serve, tmp_path):
    server = serve(package(tmp_path, WRONG_SHAPE), trusted=True)
    wait_warming(server)
    assert "has shape [3] for 1 row" in server.client.get("/readyz").json()["message"]


def test_a_model_of_which_nothing_is_known_says_whether_it_has_predicted(serve, tmp_path):
    code = "def load_model(path): return None\ndef predict(model, inputs): return [len(row) for row in inputs]\n"
    server = serve(package(tmp_path, code, ""), trusted=True).wait_ready()
    assert metric(server, "modeldeploy_model_predicted{") == 0
    assert server.client.post("/predict", json={"instances": ["text"]}).json()["predictions"] == [4]
    assert metric(server, "modeldeploy_model_predicted{") == 1


def test_refusals_are_counted_by_reason(serve, tmp_path):
    server = serve(package(tmp_path, PICKY.format(error="ValueError")), trusted=True, max_rows=3, max_request_bytes=900)
    wait_warming(server)
    assert server.client.post("/predict", json={"instances": [[2, 3]]}).status_code == 200
    tensor = {"name": "input-0", "datatype": "FP64", "shape": [1, 3], "data": [1, 2, 3]}
    before = metric(server, "modeldeploy_refusals_total{")
    for path, body in [
        ("/predict", {"instances": [[1]]}),
        ("/predict", {"instances": [[-1, 1]]}),
        ("/predict", {"instances": [[1, 1]] * 4}),
        ("/v2/models/model/infer", {"inputs": [tensor]}),
        ("/v1/models/model:predict", {"instances": [{"a": 1}]}),
        ("/invocations", {"dataframe_records": [{"a": 1, "c": 2}]}),
    ]:
        assert server.client.post(path, json=body).status_code in (413, 422)
    assert server.client.post("/predict", content=b"{", headers={"content-type": "text/plain"}).status_code == 415
    assert server.client.post("/predict", content=b"{").status_code == 400
    assert server.client.post("/predict", content=b"x" * 1000).status_code == 413
    assert server.client.post("/v1/models/other:predict", json={}).status_code == 404
    text = server.client.get("/metrics").text
    found = {
        reason: metric(server, f'modeldeploy_refusals_total{{model="model",reason="{reason}"')
        for reason in ("InvalidInput", "InputRefused", "RequestTooLarge", "UnsupportedMediaType", "MalformedRequest")
    }
    assert found == {
        "InvalidInput": 4,
        "InputRefused": 1,
        "RequestTooLarge": 2,
        "UnsupportedMediaType": 1,
        "MalformedRequest": 1,
    }, text
    assert before == 0


def test_a_request_without_a_key_is_no_refusal_of_the_model(serve, tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "a").write_text("s3cret")
    server = serve(package(tmp_path, PICKY.format(error="ValueError")), trusted=True, auth_dir=tmp_path / "keys")
    wait_warming(server)
    assert server.client.post("/predict", content=b"{").status_code == 401
    assert metric(server, "modeldeploy_refusals_total{") == 0
