"""A server keeps recent requests for the operator alone, and answers those of another revision; over HTTP."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from free_ports import free_port

TOKEN = "0123abcd"
DIGEST = sha256(TOKEN.encode()).hexdigest()
PACKAGE = """
format: python
input_features:
- {{name: age, dtype: int64, example: 40}}
- {{name: name, dtype: string, example: nobody}}
- {{name: income, dtype: float64, nullable: true, example: 1.5{more}}}
"""
MODEL = """
def load_model(path): return 1
def predict(model, inputs): return {answer}
"""
ROWS = [{"age": 20 + place, "name": f"secret-{place}", "income": 0.5 * place} for place in range(8)]


def package(folder: Path, answer: str, *, more: str = "") -> str:
    folder.mkdir()
    (folder / "model.py").write_text(MODEL.format(answer=answer))
    (folder / "model.yaml").write_text(PACKAGE.format(more=more))
    return folder.as_uri()


def asked(port: int, path: str, key: str = TOKEN, **body: Any) -> httpx.Response:
    url = f"http://127.0.0.1:{port}/shadow/{path}"
    return httpx.post(url, json=body, headers={"x-api-key": key}, trust_env=False, timeout=40)


@pytest.fixture
def started(serve, tmp_path):
    """Start a server of a package; return its port for the operator, and itself."""

    def start(answer: str, *, more: str = "", **settings: Any) -> tuple[int, Any]:
        port = free_port()
        uri = package(tmp_path / f"package-{port}", answer, more=more)
        settings = {"MODELDEPLOY_SHADOW_TOKEN_SHA256": DIGEST, **settings}
        return port, serve(uri, trusted=True, shadow_port=port, **settings).wait_ready()

    return start


def predict(server: Any, rows: list[Any]) -> None:
    for row in rows:
        server.client.post("/predict", json={"instances": [row]}).raise_for_status()


def test_a_candidate_answers_what_stable_was_asked(started):
    port, stable = started("inputs['income'] * 2")
    predict(stable, ROWS[:1])
    assert asked(port, "requests", requests=500, seconds=60).json() == {"kept": 0}, "nothing is kept unasked"
    predict(stable, [*ROWS, {**ROWS[0], "income": None}])
    told = asked(port, "requests", requests=500, seconds=60, answer=500).json()
    assert told["kept"] == 9
    newest, *others = told["requests"]
    assert newest["instances"] == [{**ROWS[0], "income": None}]
    assert (newest["size"], newest["numbers"]) == (1, [None])
    assert [one["instances"] for one in reversed(others)] == [[row] for row in ROWS]
    assert [one["numbers"] for one in reversed(others)] == [[float(place)] for place in range(8)]

    port, _ = started("inputs['income'] * 2 + (inputs['age'] == 25)")
    found = asked(port, "replay", requests=told["requests"], tolerance=0.01, relative=True, maxRatio=1e9).json()
    assert (found["requests"], found["agreed"], found["refused"], found["slower"]) == (9, 8, 0, 0)
    assert found["distance"]["count"] == 8
    assert found["distance"]["total"] == pytest.approx(1 / 6)
    assert found["timed"] == 9
    assert found["canary"]["p95"] >= found["canary"]["median"] > 0


def test_rows_that_a_candidate_refuses_are_counted_by_feature_without_their_values(started):
    port, stable = started("inputs['income'] * 2")
    asked(port, "requests", requests=500, seconds=60)
    predict(stable, ROWS)
    told = asked(port, "requests", requests=500, seconds=60, answer=500).json()
    port, _ = started("inputs['income'] * 2", more=", range: [0, 2]")
    answer = asked(port, "replay", requests=told["requests"])
    found = answer.json()
    assert (found["requests"], found["agreed"], found["refused"]) == (8, 5, 3)
    assert found["faults"] == [{"feature": "income", "count": 3}]
    assert "secret" not in answer.text


def test_redacted_features_are_replaced_before_they_are_kept(started):
    port, stable = started("[len(name) for name in inputs['name']]", input_log_redact="name,income")
    asked(port, "requests", requests=500, seconds=60)
    predict(stable, ROWS)
    answer = asked(port, "requests", requests=500, seconds=60, answer=500)
    rows = [one["instances"][0] for one in answer.json()["requests"]]
    assert [row["age"] for row in reversed(rows)] == [row["age"] for row in ROWS]
    assert {(row["name"], row["income"]) for row in rows} == {("nobody", 1.5)}
    assert {one["numbers"][0] for one in answer.json()["requests"]} == {6.0}, "stable answers the row that is shown"
    assert "secret" not in answer.text
    assert "secret" not in stable.log.read_text()


def test_a_feature_that_cannot_be_redacted_keeps_everything_away(started):
    port, stable = started("inputs['income'] * 2", input_log_redact="nmae")
    refused = asked(port, "requests", requests=500, seconds=60)
    assert refused.status_code == 400
    assert "'nmae', which is not an input of this model" in refused.text
    predict(stable, ROWS)
    assert asked(port, "requests", requests=500, seconds=60).status_code == 400


def test_the_ring_is_as_large_as_was_asked(started):
    port, stable = started("inputs['income'] * 2")
    asked(port, "requests", requests=3, seconds=60)
    predict(stable, ROWS)
    told = asked(port, "requests", requests=3, seconds=60, answer=500).json()
    assert [one["instances"] for one in told["requests"]] == [[row] for row in reversed(ROWS[-3:])]


def test_only_the_operators_token_shows_requests(started, tmp_path):
    port, _ = started("inputs['income']")
    assert asked(port, "requests", key="other", requests=3, seconds=60).status_code == 401
    assert asked(port, "replay", key="other").status_code == 401
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "ours").write_text("s3cret")
    for settings in ({}, {"auth_dir": tmp_path / "keys"}):
        port, server = started("inputs['income']", MODELDEPLOY_SHADOW_TOKEN_SHA256="", **settings)
        assert asked(port, "requests", key="s3cret", requests=3, seconds=60).status_code == 404
        assert server.client.post("/shadow/requests", json={}).status_code in (401, 404)


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        pytest.param("requests", {"requests": 0, "seconds": 60}, "requests", id="too few"),
        pytest.param("requests", {"requests": 2001, "seconds": 60}, "requests", id="too many"),
        pytest.param("requests", {"requests": 5, "seconds": 601}, "seconds", id="too long"),
        pytest.param("requests", {"requests": 5, "seconds": 6, "reply": True}, "reply", id="an unknown field"),
        pytest.param("replay", {"requests": []}, "requests", id="an empty sample"),
        pytest.param("replay", {"requests": [{"size": 1}]}, "requests[0]", id="a request without an answer"),
    ],
)
def test_a_question_that_is_none_is_refused_by_field(started, path, body, said):
    port, _ = started("inputs['income']")
    refused = asked(port, path, **body)
    assert refused.status_code == 422
    assert said in refused.text
