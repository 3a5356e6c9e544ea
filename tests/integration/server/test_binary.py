"""The binary tensor extension of V2, in both directions."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

TEXT_MODEL = """
import numpy as np
def load_model(path): return 1
def predict(model, inputs):
    return np.array([f"{name}:{age}" for name, age in zip(inputs["name"], inputs["age"])])
"""


def post(server, document, tail, path="/v2/models/wine/infer", length=None):
    head = json.dumps(document).encode()
    headers = {"inference-header-content-length": str(len(head) if length is None else length)}
    return server.client.post(path, content=head + tail, headers=headers | {"content-type": "application/octet-stream"})


def parts(answer):
    head = int(answer.headers["inference-header-content-length"])
    return json.loads(answer.content[:head]), answer.content[head:]


def an_input(rows, datatype="FP64", **parameters):
    sizes = {"binary_data_size": rows.nbytes} | parameters
    return {"name": "x", "shape": list(rows.shape), "datatype": datatype, "parameters": sizes}


@pytest.mark.parametrize(("datatype", "dtype"), [("FP64", "<f8"), ("FP32", "<f4")])
def test_bytes_in_bytes_out(wine_server, wine, datatype, dtype):
    rows = wine.rows.astype(dtype)
    document = {
        "inputs": [an_input(rows, datatype)],
        "outputs": [{"name": "predict_proba", "parameters": {"binary_data": True}}, {"name": "predict"}],
    }
    answer = post(wine_server, document, rows.tobytes())
    head, tail = parts(answer)
    as_served = rows.astype(np.float64)
    assert np.frombuffer(tail, "<f8").reshape(-1, 3).tolist() == wine.model.predict_proba(as_served).tolist()
    assert head["outputs"][0]["parameters"] == {"binary_data_size": len(tail)}
    assert head["outputs"][1]["data"] == wine.model.predict(as_served).tolist()


def test_all_outputs_as_bytes(wine_server, wine):
    document = {"inputs": [an_input(wine.rows)], "parameters": {"binary_data_output": True}}
    _, tail = parts(post(wine_server, document, wine.rows.tobytes()))
    assert np.frombuffer(tail, "<i8").tolist() == wine.model.predict(wine.rows).tolist()


ONE = np.ones((1, 13))


@pytest.mark.parametrize(
    ("document", "tail", "length", "message"),
    [
        pytest.param({"inputs": [an_input(ONE)]}, ONE.tobytes()[:-1], None, "are left", id="bytes are missing"),
        pytest.param(
            {"inputs": [an_input(ONE)]}, ONE.tobytes() + b"1", None, "1 bytes are left behind", id="bytes too many"
        ),
        pytest.param(
            {"inputs": [an_input(ONE)]},
            b"",
            10**6,
            "Inference-Header-Content-Length is '1000000'",
            id="a head beyond the body",
        ),
        pytest.param({"inputs": [an_input(ONE)]}, b"", "abc", "is 'abc'", id="a length in words"),
        pytest.param(
            {"inputs": [an_input(ONE, binary_data_size=8)]},
            b"12345678",
            None,
            "need 104 bytes, got 8",
            id="a size against the shape",
        ),
        pytest.param(
            {"inputs": [an_input(ONE, binary_data_size="x")]},
            b"",
            None,
            "expected a number of bytes",
            id="a size in words",
        ),
        pytest.param(
            {"inputs": [an_input(ONE * np.nan)]},
            (ONE * np.nan).tobytes(),
            None,
            "expected a number",
            id="NaN for a number",
        ),
    ],
)
def test_what_does_not_fit_is_named(wine_server, document, tail, length, message):
    answer = post(wine_server, document, tail, length=length)
    assert answer.status_code in (400, 422)
    assert message in answer.json()["error"]


@pytest.fixture
def text_server(serve, tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "model.py").write_text(TEXT_MODEL)
    (folder / "model.yaml").write_text("input_features: [{name: name, dtype: string}, {name: age, dtype: int64}]")
    return serve(f"file://{folder}", trusted=True).wait_ready()


def test_texts_travel_as_bytes(text_server):
    names = [b"ann", "zoë".encode(), b""]
    texts = b"".join(struct.pack("<I", len(name)) + name for name in names)
    ages = np.array([[1], [2], [3]], dtype="<i8")
    document = {
        "inputs": [
            {"name": "name", "shape": [3, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(texts)}},
            {"name": "age", "shape": [3, 1], "datatype": "INT64", "parameters": {"binary_data_size": 24}},
        ],
        "parameters": {"binary_data_output": True},
    }
    path = "/v2/models/model/infer"
    head, tail = parts(post(text_server, document, texts + ages.tobytes(), path=path))
    assert head["outputs"][0]["datatype"] == "BYTES"
    expected = ["ann:1", "zoë:2", ":3"]
    assert tail == b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in expected)
    rows = {"instances": [{"name": "ann", "age": 1}, ["zoë", 2], {"age": 3, "name": ""}]}
    assert text_server.client.post("/predict", json=rows).json()["predictions"] == expected
    short = post(text_server, document, texts[:-1] + b"\xff" + ages.tobytes(), path=path)
    assert short.status_code == 422


IN_PLACE = """
def load_model(path): return 10
def predict(model, inputs):
    inputs -= model
    return inputs[:, 0]
"""


def test_a_model_py_may_compute_in_place_whatever_the_tensors_came_as(serve, tmp_path):
    folder = tmp_path / "in-place"
    folder.mkdir()
    (folder / "model.py").write_text(IN_PLACE)
    server = serve(f"file://{folder}", trusted=True).wait_ready()
    assert server.client.post("/predict", json={"instances": [[11.5, 2.5]]}).json()["predictions"] == [1.5]
    rows = np.array([[11.5, 2.5]])
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP64", "parameters": {"binary_data_size": rows.nbytes}}
    head = json.dumps({"inputs": [tensor]}).encode()
    answer = server.client.post(
        "/v2/models/model/infer",
        content=head + rows.tobytes(),
        headers={"inference-header-content-length": str(len(head))},
    )
    assert answer.json()["outputs"][0]["data"] == [1.5]
