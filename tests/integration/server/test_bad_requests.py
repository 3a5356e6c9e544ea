"""Whatever a client sends, the answer is 4xx and names the fault; the server lives on."""

from __future__ import annotations

import socket

import pytest

HEAD = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


def v2(**changes):
    tensor = {"name": "x", "shape": [1, 13], "datatype": "FP64", "data": [1.0] * 13} | changes
    return {"inputs": [tensor]}


@pytest.mark.parametrize(
    ("change", "status", "field", "message"),
    [
        pytest.param(
            {"alcohol": "abc"},
            422,
            "instances[0].alcohol",
            'expected a number, got "abc"',
            id="text for a number",
        ),
        pytest.param(
            {"alcohol": None},
            422,
            "instances[0].alcohol",
            "expected a number, got null",
            id="null for a number",
        ),
        pytest.param(
            {"alcohol": True},
            422,
            "instances[0].alcohol",
            "expected a number, got true",
            id="a boolean is no number",
        ),
        pytest.param(
            {"alcohol": [1]},
            422,
            "instances[0].alcohol",
            "expected a number, got [1]",
            id="a list for a number",
        ),
        pytest.param({"alcohol": 101}, 422, "instances[0].alcohol", "from 0 to 100, got 101", id="outside the range"),
        pytest.param(
            {"alcohl": 1},
            422,
            "instances[0].alcohl",
            "did you mean alcohol?",
            id="an unknown feature, with a guess",
        ),
    ],
)
def test_a_bad_value_is_named_by_row_and_feature(wine_server, wine, change, status, field, message):
    answer = wine_server.client.post("/predict", json={"instances": [wine.objects(wine.rows[:1])[0] | change]})
    assert answer.status_code == status
    document = answer.json()
    assert document["reason"] == "InvalidInput"
    assert document["details"][0]["field"] == field
    assert message in document["error"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        pytest.param(b"", 400, "the body is empty", id="no body"),
        pytest.param(b'{"instances": [', 400, "the body is not JSON", id="half a document"),
        pytest.param(b"\xff\xfe", 400, "the body is not JSON", id="no text"),
        pytest.param(b"[1]", 400, "expected a JSON object, got a list", id="a list is no request"),
        pytest.param(b"{}", 422, "instances: is missing", id="no instances"),
        pytest.param(b'{"instances": 5}', 422, "instances: expected a list, got a number", id="instances is a number"),
        pytest.param(b'{"instances": []}', 422, "expected at least one row", id="no rows"),
        pytest.param(b'{"instances": [[1, 2]]}', 422, "instances[0]: expected 13 values, got 2", id="a short row"),
        pytest.param(b'{"instances": [7]}', 422, "expected an object or a list of 13 values", id="a bare number"),
        pytest.param(b'{"instances": [{}]}', 422, "instances[0].alcohol: is missing (and 12 more)", id="an empty row"),
        pytest.param(b'{"instances": [[NaN]]}', 400, "the body is not JSON", id="NaN is not JSON"),
        pytest.param(b'{"instances": [[1e999]]}', 400, "the body is not JSON", id="infinity by overflow"),
        pytest.param(b'{"instances": [[1]], "extra": 1}', 422, "extra: is not a field", id="an unknown field"),
        pytest.param(
            b'{"instances": [[1]], "parameters": {"prob": true}}',
            422,
            "parameters.prob",
            id="an unknown parameter",
        ),
        pytest.param(b"[" * 100_000, 400, "the body is not JSON", id="deep nesting"),
    ],
)
def test_a_bad_document_is_refused(wine_server, body, status, message):
    answer = wine_server.client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert message in answer.json()["error"]
    assert answer.status_code == status


DEEP = [b"[" * 950 + b"]" * 950, b'{"a":' * 950 + b"1" + b"}" * 950]


@pytest.mark.parametrize("deep", DEEP, ids=["lists", "objects"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", b'{"instances": [[%s]]}'),
        ("/predict", b'{"instances": [{"alcohol": %s}]}'),
        ("/predict", b'{"instances": [[1]], "parameters": {"probabilities": %s}}'),
        ("/v1/models/wine:predict", b'{"inputs": {"alcohol": [%s]}}'),
        ("/v2/models/wine/infer", b'{"inputs": [{"name": "x", "shape": [1, 13], "datatype": "FP64", "data": [%s]}]}'),
        ("/v2/models/wine/infer", b'{"inputs": [{"name": %s, "shape": [1, 13], "datatype": "FP64", "data": [1]}]}'),
        ("/v2/models/wine/infer", b'{"inputs": [{"name": "x", "shape": [%s], "datatype": "FP64", "data": [1]}]}'),
        ("/invocations", b'{"dataframe_split": {"columns": %s, "data": [[1]]}}'),
        ("/invocations", b'{"dataframe_records": [%s]}'),
        ("/feedback", b'{"prediction": 1, "label": %s}'),
        ("/feedback", b'{"prediction": %s, "label": 1}'),
        ("/feedback", b'{"id": %s, "label": 1}'),
        ("/feedback", b'{"conversion": %s}'),
    ],
)
def test_what_is_nested_as_deeply_as_json_may_be_is_the_clients_fault(wine_server, path, body, deep):
    answer = wine_server.client.post(path, content=body % deep, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert len(answer.json()["error"]) < 2000


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({}, "inputs: is missing", id="no inputs"),
        pytest.param({"inputs": []}, "inputs: expected a list of tensors", id="no tensors"),
        pytest.param({"inputs": [5]}, "inputs[0]: expected an object", id="a number is no tensor"),
        pytest.param({"inputs": [{"name": "x"}]}, "inputs[0].shape: is missing", id="no shape"),
        pytest.param(v2(shape=[1, 12]), "needs 12 values, got 13", id="shape and data disagree"),
        pytest.param(v2(shape=[-1, 13]), "inputs[0].shape: expected a list of sizes", id="a negative size"),
        pytest.param(v2(shape=[13, 1]), "expected [rows, 13], got [13, 1]", id="the wrong width"),
        pytest.param(v2(datatype="FP65"), "inputs[0].datatype: expected one of BOOL", id="an unknown datatype"),
        pytest.param(
            v2(datatype="INT8", data=[300] * 13),
            "expected values that fit INT8",
            id="too large for its datatype",
        ),
        pytest.param(
            v2(datatype="INT64", data=[1.5] * 13),
            "expected values that fit INT64",
            id="a fraction as an integer",
        ),
        pytest.param(v2(data=["a"] * 13), 'expected FP64 values, got "a"', id="text as FP64"),
        pytest.param(
            v2(shape=[100_001], data=[1] * 10**5 + ["a"]), 'expected FP64 values, got "a"', id="text far behind"
        ),
        pytest.param(v2(data=[True] + [1.0] * 12), "expected FP64 values, got true", id="a boolean as FP64"),
        pytest.param(v2(data=[[1], [2, 3]]), "nested lists of equal lengths", id="ragged data"),
        pytest.param(v2(datatype="BYTES", data=["a"] * 13), "expected numbers, got BYTES", id="BYTES for numbers"),
        pytest.param(v2(data=[1e6] + [1.0] * 12), "from 0 to 100", id="outside the range"),
        pytest.param(
            v2() | {"outputs": [{"name": "nope"}]},
            "outputs[0].name: expected one of predict",
            id="unknown output",
        ),
        pytest.param(v2() | {"id": 5}, "id: expected a string", id="an id that is no string"),
    ],
)
def test_a_bad_tensor_is_refused(wine_server, body, message):
    answer = wine_server.client.post("/v2/models/wine/infer", json=body)
    assert message in answer.json()["error"]
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        pytest.param("GET", "/nothing", 404, "there is nothing at /nothing", id="an unknown path"),
        pytest.param("GET", "/predict", 405, "answers POST, not GET", id="the wrong method"),
        pytest.param("GET", "/v2/models/other", 404, "model 'other' is not served here", id="an unknown model"),
        pytest.param("GET", "/v2/models/wine/versions/9", 404, "version '9' is not served", id="an unknown version"),
        pytest.param("POST", "/v1/models/other:predict", 404, "model 'other' is not served", id="an unknown V1 model"),
    ],
)
def test_what_is_not_there_is_said(wine_server, method, path, status, message):
    answer = wine_server.client.request(method, path)
    assert message in answer.json()["error"]
    assert answer.status_code == status


def test_a_wrong_method_is_told_the_right_ones(wine_server):
    assert wine_server.client.get("/predict").headers["allow"] == "POST"
    assert wine_server.client.post("/readyz").headers["allow"] == "GET, HEAD"


def test_another_content_type_is_refused(wine_server):
    answer = wine_server.client.post("/predict", content=b"a,b", headers={"content-type": "text/csv"})
    assert answer.status_code == 415


LONG = "k" * 100_000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/predict", {"instances": [{LONG: 1}]}, id="a feature"),
        pytest.param("/predict", {LONG: 1}, id="a field"),
        pytest.param("/invocations", {LONG: 1}, id="a form"),
        pytest.param("/v2/models/wine/infer", v2(name=LONG) | {"outputs": [{"name": LONG}]}, id="an output"),
        pytest.param("/v2/models/wine/infer", {"inputs": v2(name=LONG)["inputs"] * 2}, id="a tensor"),
        pytest.param("/feedback", {"id": LONG, "label": 1}, id="a prediction"),
        pytest.param("/feedback", {"prediction": LONG, "label": 1}, id="a label"),
        pytest.param("/" + LONG[:50_000], {}, id="a path"),
    ],
)
def test_a_refusal_is_short_however_long_the_name(wine_server, path, body):
    before = wine_server.log.stat().st_size
    answer = wine_server.client.post(path, json=body)
    assert 400 <= answer.status_code < 500
    assert len(answer.content) < 8_000
    assert "..." in answer.json()["error"]
    assert wine_server.log.stat().st_size - before < 4_000


def test_too_many_rows_are_refused(wine_server, wine):
    answer = wine_server.client.post("/predict", json={"instances": [[0] * 13] * 10_001})
    assert answer.status_code == 413
    assert "10001 rows, and 10000 are allowed" in answer.json()["error"]


def test_a_body_that_is_declared_too_large_is_refused_before_it_is_sent(wine_server):
    head = HEAD + b"content-length: 99999999999\r\n\r\n"
    with socket.create_connection(("127.0.0.1", wine_server.port), timeout=10) as connection:
        connection.sendall(head)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer


def test_a_chunked_body_that_grows_too_large_is_cut(wine_server):
    head = HEAD + b"transfer-encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%s\r\n" % (1 << 20, b" " * (1 << 20))
    with socket.create_connection(("127.0.0.1", wine_server.port), timeout=10) as connection:
        connection.sendall(head)
        with pytest.raises(OSError, match=r"reset|pipe"):
            connection.sendall(chunk * 100)
    assert 'code="413"' in wine_server.client.get("/metrics").text


def test_no_answer_above_was_a_server_error(wine_server):
    metrics = wine_server.client.get("/metrics").text
    assert 'code="422"' in metrics
    assert 'code="5' not in metrics
