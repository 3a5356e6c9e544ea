"""What a meter writes of requests and answers, and how labels find their answers."""

from __future__ import annotations

import json

import pytest

from model_server.domain.model import Identity
from model_server.errors import InvalidInput, UnknownPrediction
from model_server.meter import recording
from model_server.meter.recording import Labels, redacted_values, shown
from model_server.telemetry import Telemetry


@pytest.mark.parametrize(
    ("body", "redact", "written"),
    [
        pytest.param(b'{"a": 1}', (), {"a": 1}, id="a document"),
        pytest.param(b"plain", (), "plain", id="text"),
        pytest.param(b"\xff\xfe", (), "[2 bytes]", id="bytes"),
        pytest.param(b"", (), "", id="nothing"),
        pytest.param(b"plain", ("a",), "[redacted]", id="what cannot be read cannot be redacted"),
        pytest.param(
            b'{"a": 1, "b": {"a": [2]}}', ("a",), {"a": "[redacted]", "b": {"a": "[redacted]"}}, id="any depth"
        ),
        pytest.param(b'[{"a": 1}, 2]', ("a",), [{"a": "[redacted]"}, 2], id="in lists"),
    ],
)
def test_how_a_body_is_written(body, redact, written):
    assert shown(body, frozenset(redact)) == written


def test_a_tensor_is_redacted_by_its_name():
    document = {"inputs": [{"name": "age", "shape": [1], "data": [31]}, {"name": "sum", "data": [2]}]}
    found = redacted_values(document, frozenset({"age"}))
    assert found["inputs"][0] == {"name": "age", "shape": [1], "data": "[redacted]"}
    assert found["inputs"][1] == document["inputs"][1]


def labels() -> tuple[Labels, Telemetry]:
    telemetry = Telemetry()
    telemetry.loaded(Identity(model="m", version="1", revision="r"))
    return Labels(telemetry, remembers=True), telemetry


def answer(*values: object) -> bytes:
    return json.dumps({"outputs": [{"name": "y", "data": list(values)}]}).encode()


def send(found: Labels, **document: object) -> None:
    found.receive(json.dumps(document).encode())


def test_a_label_is_compared_with_the_answer_of_its_id():
    found, telemetry = labels()
    found.remember(b"a", answer("yes", "no"))
    send(found, id="a", label=["yes", "yes"])
    text = telemetry.render().decode()
    for outcome in ("correct", "wrong"):
        assert f'modeldeploy_feedback_total{{model="m",outcome="{outcome}",revision="r",version="1"}} 1.0' in text


def test_an_answer_is_forgotten_when_newer_ones_push_it_out(monkeypatch):
    monkeypatch.setattr(recording, "MOST_ANSWERS", 2)
    found, _ = labels()
    for name in (b"a", b"b", b"c"):
        found.remember(name, answer(1))
    send(found, id="c", label=1)
    with pytest.raises(UnknownPrediction):
        send(found, id="a", label=1)


def test_a_large_answer_is_not_kept():
    found, _ = labels()
    found.remember(b"a", answer("x" * 20_000))
    with pytest.raises(UnknownPrediction):
        send(found, id="a", label="x")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"outputs": [{"data": 1}]}'])
def test_an_answer_without_outputs_cannot_be_compared(body):
    found, _ = labels()
    found.remember(b"a", body)
    with pytest.raises(InvalidInput, match="send prediction and label"):
        send(found, id="a", label=1)
