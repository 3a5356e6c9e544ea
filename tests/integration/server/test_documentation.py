"""`/docs` works: what the document shows as an example is answered, whatever the model takes."""

from __future__ import annotations

import json
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from waiting import wait_until

from model_server.errors import RequestError
from model_server.statuses import STATUS_OF

CHURN = """
import numpy as np

def load_model(path): return 1
def predict(model, inputs): return np.array([int(plan == "paid") for plan in inputs["plan"]])
"""

CHURN_METADATA = """
version: "7"
description: Who will leave next month
input_features:
- {name: age, dtype: int64, range: [0, 130], description: Age in years}
- {name: plan, dtype: string, categories: [free, paid], example: free}
- {name: spend, nullable: true, example: 12.5}
- {name: is new, dtype: bool, example: true}
output_features:
- {name: leaves, dtype: int64, categories: [0, 1]}
"""


def image_package(folder: Path) -> None:
    """A graph of pictures: one tensor of rank three, and no features."""
    from onnx import TensorProto, helper

    shape = [None, 2, 3]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("image", "same")]
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["same"])], "same", ends[:1], ends[1:])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def churn_package(folder: Path) -> None:
    """A table with features of every kind."""
    (folder / "model.py").write_text(CHURN)
    (folder / "model.yaml").write_text(CHURN_METADATA)


def explained_package(folder: Path) -> None:
    """A linear model with a reference profile."""
    rows = np.arange(20.0).reshape(10, 2)
    joblib.dump(LinearRegression().fit(rows, rows.sum(axis=1)), folder / "model.joblib")
    profile = {name: {"edges": [0, 10, 20], "counts": [5, 5]} for name in ("width", "height")}
    inputs = [{"name": name, "example": 3} for name in profile]
    about = {"version": "1", "input_features": inputs, "reference_profile": profile}
    (folder / "model.yaml").write_text(json.dumps(about))


PACKAGES = {"wine": None, "churn": churn_package, "image": image_package, "explained": explained_package}


@pytest.fixture(scope="module", params=PACKAGES)
def documented(request, run_server, tmp_path_factory):
    """A server of each kind of model with API keys, and its document."""
    folder, keys = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("keys")
    (keys / "a").write_text("s3cret")
    write = PACKAGES[request.param]
    uri = request.getfixturevalue("wine").uri if write is None else f"file://{folder}"
    if write is not None:
        write(folder)
    log = tmp_path_factory.mktemp("server")
    is_explained = request.param == "explained"
    with run_server(log, uri, name=request.param, trusted=True, auth_dir=keys, explanations=is_explained) as server:
        server.wait_ready()
        if is_explained:
            key = {"x-api-key": "s3cret"}
            wait_until(lambda: server.client.get("/explain/importance", headers=key).status_code == 200)
        yield server, server.client.get("/openapi.json").json()


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_every_example_is_answered(documented):
    server, document = documented
    pressed = []
    for method, path, operation in operations(document):
        for kind, body in operation.get("requestBody", {}).get("content", {}).items():
            for name, example in body.get("examples", {}).items():
                value = example["value"]
                content = value if isinstance(value, str) else json.dumps(value)
                headers = {"content-type": kind, "authorization": "Bearer s3cret"}
                answer = server.client.request(method, path, content=content, headers=headers)
                assert answer.status_code == 200, (path, name, answer.text)
                pressed.append((path, kind))
    posts = {path for method, path, _ in operations(document) if method == "POST"}
    assert {path for path, _ in pressed} == posts


def test_every_get_is_answered(documented):
    server, document = documented
    for method, path, _ in operations(document):
        if method == "GET":
            assert server.client.get(path, headers={"x-api-key": "s3cret"}).status_code == 200, path


def test_an_answer_has_one_example_for_each_code_with_its_reason(documented):
    _, document = documented
    reasons = {kind.__name__: STATUS_OF[kind].http for kind in RequestError.__subclasses__()}
    for method, path, operation in operations(document):
        for code, answer in operation["responses"].items():
            content = answer.get("content", {}).get("application/json", {})
            if int(code) >= 400 and "example" in content:
                assert reasons[content["example"]["reason"]] == int(code), (method, path)
        if method == "POST":
            missing = [
                code for code in ("400", "401", "422") if "example" not in json.dumps(operation["responses"][code])
            ]
            assert not missing


def test_a_refusal_names_the_models_own_feature(documented):
    _, document = documented
    refused = document["paths"]["/predict"]["post"]["responses"]["422"]["content"]["application/json"]["example"]
    names = {"wine": "alcohol", "churn": "age", "explained": "width"}
    first = f"instances[0].{names[document['info']['title']]}" if document["info"]["title"] in names else ""
    assert refused["details"][0]["field"] == (first or "instances")


def test_keys_are_security_schemes(documented):
    _, document = documented
    assert document["components"]["securitySchemes"].keys() == {"bearer", "apiKey"}
    is_open = {path for method, path, operation in operations(document) if "security" not in operation}
    assert is_open == {
        "/livez", "/readyz", "/metrics", "/ping", "/health", "/version", "/v2", "/v2/health/live", "/v2/health/ready",
    }  # fmt: skip


def test_operation_ids_are_stable_names(documented):
    _, document = documented
    found = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(found)) == len(found)
    assert {"predict", "feedback", "v1_predict", "v2_infer", "v2_model", "mlflow_invocations", "readyz"} <= set(found)


def test_the_bodies_that_are_read_are_documented(documented):
    _, document = documented
    content = {
        operation["operationId"]: set(operation["requestBody"]["content"])
        for method, _, operation in operations(document)
        if method == "POST"
    }
    assert content["v2_infer"] == {"application/json", "application/octet-stream"}
    assert content["mlflow_invocations"] == {"application/json", "text/csv"}


def test_a_document_without_keys_asks_for_none(wine_server):
    document = wine_server.client.get("/openapi.json").json()
    assert "securitySchemes" not in document["components"]
    assert all("401" not in operation["responses"] for _, _, operation in operations(document))


def test_behind_a_prefix_the_server_is_found(serve, sign):
    server = serve(sign, trusted=True, root_path="/models/sign").wait_ready()
    document = server.client.get("/openapi.json").json()
    assert document["servers"] == [{"url": "/models/sign"}]
    body = {"instances": [[1, 2]]}
    for path in ("/predict", "/models/sign/predict"):
        assert server.client.post(path, json=body).json()["predictions"] == [1]
    assert server.client.get("/models/sign/readyz").status_code == 200


def test_pages_of_other_origins_may_ask_when_they_are_allowed(serve, sign):
    server = serve(sign, trusted=True, cors_origins="https://app.example, https://other.example").wait_ready()
    asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
    allowed = server.client.options("/predict", headers=asked | {"access-control-request-headers": "content-type"})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    answer = server.client.post("/predict", json={"instances": [[1, 2]]}, headers={"origin": "https://app.example"})
    assert answer.json()["predictions"] == [1]
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    refused = server.client.post("/predict", json={}, headers={"origin": "https://app.example"})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (422, "https://app.example")
    stranger = server.client.post("/predict", json={"instances": [[1, 2]]}, headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in stranger.headers


def test_without_the_setting_no_other_origin_may_ask(wine_server):
    asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
    assert wine_server.client.options("/predict", headers=asked).status_code == 405


def test_a_path_of_a_version_is_answered_alike_each_time(wine, wine_server):
    tensor = {"name": "x", "shape": [1, 13], "datatype": "FP64", "data": wine.rows[0].tolist()}
    path = "/v2/models/wine/versions/3/infer"
    answers = [wine_server.client.post(path, json={"inputs": [tensor]}).json() for _ in range(3)]
    assert answers[0]["outputs"][0]["data"] == np.asarray(wine.model.predict(wine.rows[:1])).tolist()
    assert answers[0] == answers[1] == answers[2]


def test_the_example_of_an_answer_is_what_the_model_answers(documented):
    server, document = documented
    for path in ("/predict", f"/v2/models/{server_name(document)}/infer"):
        operation = document["paths"][path]["post"]
        (first, *_) = operation["requestBody"]["content"]["application/json"]["examples"].values()
        answer = server.client.post(path, json=first["value"], headers={"x-api-key": "s3cret"}).json()
        assert answer == operation["responses"]["200"]["content"]["application/json"]["example"]


def test_requests_of_the_page_go_below_the_prefix_that_a_gateway_cuts_off(documented):
    assert documented[1]["servers"] == [{"url": "."}]


def server_name(document):
    (path,) = [path for path in document["paths"] if path.endswith(":predict") and "/versions/" not in path]
    return path.removeprefix("/v1/models/").removesuffix(":predict")
