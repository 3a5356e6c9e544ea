"""What a served model answers, compared with the model itself."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("route", ["/predict", "/v1/models/wine:predict"])
@pytest.mark.parametrize("form", ["objects", "lists"])
def test_every_row_is_predicted_as_the_model_does(wine_server, wine, route, form):
    instances = wine.objects(wine.rows) if form == "objects" else wine.rows.tolist()
    answer = wine_server.client.post(route, json={"instances": instances})
    assert answer.status_code == 200
    assert answer.json() == {
        "predictions": wine.model.predict(wine.rows).tolist(),
        "model_name": "wine",
        "model_version": "3",
    }


def test_probabilities_come_when_they_are_asked_for(wine_server, wine):
    body = {"instances": wine.rows[:5].tolist(), "parameters": {"probabilities": True}}
    answer = wine_server.client.post("/predict", json=body).json()
    assert answer["probabilities"] == wine.model.predict_proba(wine.rows[:5]).tolist()
    assert answer["classes"] == [0, 1, 2]
    assert answer["predictions"] == wine.model.predict(wine.rows[:5]).tolist()


@pytest.mark.parametrize("path", ["/v2/models/wine/infer", "/v2/models/wine/versions/3/infer"])
def test_v2_infers_as_the_model_does(wine_server, wine, path):
    tensor = {"name": "any", "shape": [178, 13], "datatype": "FP64", "data": wine.rows.reshape(-1).tolist()}
    answer = wine_server.client.post(path, json={"id": "a1", "inputs": [tensor]}).json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("wine", "3", "a1")
    expected = wine.model.predict(wine.rows).tolist()
    assert answer["outputs"] == [{"name": "predict", "shape": [178], "datatype": "INT64", "data": expected}]


def test_v2_gives_the_outputs_that_are_named(wine_server, wine):
    tensor = {"name": "x", "shape": [2, 13], "datatype": "FP64", "data": wine.rows[:2].tolist()}
    body = {"inputs": [tensor], "outputs": [{"name": "predict_proba"}]}
    (output,) = wine_server.client.post("/v2/models/wine/infer", json=body).json()["outputs"]
    assert output["shape"] == [2, 3]
    assert output["data"] == wine.model.predict_proba(wine.rows[:2]).reshape(-1).tolist()


def test_v2_describes_the_server_and_the_model(wine_server):
    get = wine_server.client.get
    assert get("/v2").json()["name"] == "modeldeploy"
    assert get("/v2/health/live").status_code == get("/v2/health/ready").status_code == 200
    assert get("/v2/models/wine/ready").status_code == 200
    described = get("/v2/models/wine").json()
    assert described["inputs"] == [{"name": "input-0", "datatype": "FP64", "shape": [-1, 13]}]
    assert [output["name"] for output in described["outputs"]] == ["predict", "predict_proba"]
    assert get("/v1/models/wine").json() == {"name": "wine", "ready": True}


def test_steps_in_files_of_their_own_make_a_pipeline(serve, cancer):
    server = serve(cancer.uri, trusted=True).wait_ready()
    answer = server.client.post("/predict", json={"instances": cancer.rows.tolist()}).json()
    assert answer["predictions"] == cancer.model.predict(cancer.rows).tolist()


def test_an_onnx_graph_is_served_from_one_file_without_trust(serve, iris_onnx):
    import onnxruntime

    server = serve(f"{iris_onnx.uri}/model.onnx").wait_ready()
    answer = server.client.post(
        "/predict", json={"instances": iris_onnx.rows.tolist(), "parameters": {"probabilities": True}}
    ).json()
    session = onnxruntime.InferenceSession(iris_onnx.folder / "model.onnx")
    labels, probabilities = session.run(None, {session.get_inputs()[0].name: iris_onnx.rows})
    assert answer["predictions"] == labels.tolist()
    assert answer["probabilities"] == probabilities.tolist()


MODEL_PY = """
import json, pathlib

def load_model(path):
    return json.loads((pathlib.Path(path) / "weights.json").read_text())

def predict(model, inputs):
    if (inputs < 0).any():
        raise ValueError("negative values are not supported")
    if (inputs > 1e6).any():
        raise RuntimeError("secret detail")
    return inputs @ model["weights"]
"""


@pytest.fixture
def python_package(tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "model.py").write_text(MODEL_PY)
    (folder / "weights.json").write_text(json.dumps({"weights": [1.0, 10.0]}))
    return folder


def test_a_model_py_loads_and_predicts(serve, python_package):
    client = serve(f"file://{python_package}", trusted=True).wait_ready().client
    assert client.post("/predict", json={"instances": [[1, 2], [3, 4]]}).json()["predictions"] == [21.0, 43.0]
    refused = client.post("/predict", json={"instances": [[-1, 2]]})
    assert refused.status_code == 422
    assert "negative values are not supported" in refused.json()["error"]
    broken = client.post("/predict", json={"instances": [[1e7, 2]]})
    assert broken.status_code == 500
    assert "secret" not in broken.text
    assert "Traceback" not in broken.text


def test_openapi_is_typed_from_the_metadata(wine_server):
    document = wine_server.client.get("/openapi.json").json()
    assert document["info"] == {
        "title": "wine",
        "version": "3",
        "description": "Which cultivar a wine is from",
    }
    row = document["components"]["schemas"]["Row"]
    assert row["additionalProperties"] is False
    assert len(row["required"]) == 13
    alcohol: dict[str, Any] = row["properties"]["alcohol"]
    assert (alcohol["minimum"], alcohol["maximum"], alcohol["examples"]) == (0, 100, [14.23])
    assert alcohol["description"] == "Alcohol, percent by volume"
    response = document["components"]["schemas"]["PredictResponse"]
    assert response["properties"]["predictions"]["items"]["enum"] == [0, 1, 2]


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_pages_need_no_other_host(wine_server, page):
    html = wine_server.client.get(page).text
    assert "//" not in html.replace("http://www.w3.org", "").split("<body>")[0].replace("<!--", "")
    assert "cdn" not in html
    script = html.split('src="')[1].split('"')[0]
    content = wine_server.client.get(f"/{script}")
    assert content.status_code == 200
    assert len(content.content) > 100_000


def test_a_request_id_is_kept_and_made(wine_server):
    given = wine_server.client.get("/livez", headers={"x-request-id": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"
    made = [wine_server.client.get("/livez").headers["x-request-id"] for _ in range(2)]
    assert made[0] != made[1]
    assert all(made)


def test_concurrent_requests_get_their_own_answers(wine_server, wine):
    import asyncio

    import httpx

    rows = np.resize(wine.rows, (150, 13))
    expected = wine.model.predict(rows).tolist()

    async def ask() -> list[int]:
        async with httpx.AsyncClient(base_url=wine_server.url, trust_env=False, timeout=30) as client:
            bodies = [json.dumps({"instances": [row]}) for row in rows.tolist()]
            answers = await asyncio.gather(*(client.post("/predict", content=body, headers=JSON) for body in bodies))
        return [answer.json()["predictions"][0] for answer in answers]

    assert asyncio.run(ask()) == expected
