"""CloudEvents in and out, written and read by the library of the CloudEvents project."""

from __future__ import annotations

import json

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

PATHS = ("/v1/models/wine:predict", "/v1/models/wine/versions/3:predict")
WRITERS = {"binary": to_binary_event, "structured": to_structured_event}


def attributes(**more):
    return {
        "type": "com.example.sample",
        "source": "/sensors/7",
        "id": "a-1",
        "datacontenttype": "application/json",
        **more,
    }


def post(server, path, message):
    return server.client.post(path, content=message.body, headers=message.headers)


@pytest.mark.parametrize("mode", ["binary", "structured"])
@pytest.mark.parametrize("path", PATHS)
def test_an_event_is_answered_with_an_event_in_its_mode(wine_server, wine, path, mode):
    rows = wine.rows[:3].tolist()
    event = CloudEvent(attributes(specversion="1.0", subject="wine", mycontext="é"), {"instances": rows})
    answer = post(wine_server, path, WRITERS[mode](event))
    assert answer.status_code == 200, answer.text
    is_structured = answer.headers["content-type"].startswith("application/cloudevents+json")
    assert is_structured == (mode == "structured")
    assert ("ce-id" in answer.headers) == (mode == "binary")
    told = from_http_event(HTTPMessage(dict(answer.headers), answer.content))
    assert told.get_type() == "io.kserve.inference.response"
    assert told.get_source() == "io.kserve.inference.wine"
    assert told.get_specversion() == "1.0"
    assert told.get_id() not in ("", "a-1")
    assert told.get_time() is not None
    data = told.get_data()
    found = data if isinstance(data, dict) else json.loads(data)
    plain = wine_server.client.post(path, json={"instances": rows})
    assert found == plain.json()
    assert "ce-id" not in plain.headers
    assert answer.headers["x-request-id"]


def test_each_answer_is_an_event_of_its_own(wine_server, wine):
    event = to_binary_event(CloudEvent(attributes(specversion="1.0"), {"instances": wine.rows[:1].tolist()}))
    answers = [post(wine_server, PATHS[0], event) for _ in range(2)]
    assert len({answer.headers["ce-id"] for answer in answers}) == 2


def test_an_attribute_that_is_null_is_absent(wine_server, wine):
    data = {"instances": wine.rows[:1].tolist()}
    event = STRUCTURED | {"data": data, "datacontenttype": None, "subject": None}
    headers = {"content-type": "application/cloudevents+json"}
    assert wine_server.client.post(PATHS[0], content=json.dumps(event), headers=headers).status_code == 200


def test_data_in_base64_are_read(wine_server, wine):
    data = json.dumps({"instances": wine.rows[:2].tolist()}).encode()
    message = to_structured_event(CloudEvent(attributes(specversion="1.0"), data))
    assert "data_base64" in json.loads(message.body) or "data" in json.loads(message.body)
    assert post(wine_server, PATHS[0], message).status_code == 200


STRUCTURED = {"specversion": "1.0", "id": "1", "source": "/a", "type": "t", "data": {"instances": []}}
BINARY = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/a", "ce-type": "t"}


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        pytest.param({"id": None}, 422, "id", id="null for an id"),
        pytest.param({"source": ""}, 422, "source", id="an empty source"),
        pytest.param({"type": 7}, 422, "type", id="a number for a type"),
        pytest.param({"specversion": "0.3"}, 422, "specversion", id="an older version"),
        pytest.param({"datacontenttype": "text/csv"}, 415, "", id="data in CSV"),
        pytest.param({"datacontenttype": 7}, 415, "", id="a number for a content type"),
        pytest.param({"data_base64": "e30="}, 422, "data", id="data twice"),
        pytest.param({"data": {"instances": []}}, 422, "instances", id="no rows"),
        pytest.param({"data": "text"}, 400, "", id="data that are no object"),
    ],
)
def test_what_is_no_event_is_refused(wine_server, change, status, field):
    body = json.dumps(STRUCTURED | change).encode()
    answer = wine_server.client.post(PATHS[0], content=body, headers={"content-type": "application/cloudevents+json"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    if field:
        assert answer.json()["details"][0]["field"] == field


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param({"data_base64": "%"}, 422, id="no base64"),
        pytest.param({"data_base64": 7}, 422, id="a number for base64"),
        pytest.param({"data_base64": "AAAA"}, 400, id="base64 of no JSON"),
        pytest.param({}, 422, id="no data"),
    ],
)
def test_data_that_cannot_be_read_are_refused(wine_server, body, status):
    event = {name: value for name, value in STRUCTURED.items() if name != "data"} | body
    headers = {"content-type": "application/cloudevents+json; charset=utf-8"}
    answer = wine_server.client.post(PATHS[0], content=json.dumps(event), headers=headers)
    assert answer.status_code == status


@pytest.mark.parametrize("missing", [name for name in BINARY if name != "ce-specversion"])
def test_headers_of_an_event_that_are_missing_are_named(wine_server, wine, missing):
    headers = {name: value for name, value in BINARY.items() if name != missing}
    answer = wine_server.client.post(PATHS[0], json={"instances": wine.rows[:1].tolist()}, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["details"] == [{"field": missing, "message": "is missing"}]


def test_a_batch_of_events_is_refused_with_what_to_send(wine_server):
    headers = {"content-type": "application/cloudevents-batch+json"}
    answer = wine_server.client.post(PATHS[0], content=json.dumps([STRUCTURED]), headers=headers)
    assert answer.status_code == 415
    assert "one event in each request" in answer.json()["hint"]


def test_events_are_documented(wine_server):
    document = wine_server.client.get("/openapi.json").json()
    operation = document["paths"]["/v1/models/wine:predict"]["post"]
    for content in (operation["requestBody"]["content"], operation["responses"]["200"]["content"]):
        name = content["application/cloudevents+json"]["schema"]["$ref"].rpartition("/")[2]
        assert "specversion" in document["components"]["schemas"][name]["properties"]
