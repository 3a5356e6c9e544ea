"""MLflow's own server: what it answers is what `models:/` understands. Skipped where it is not installed."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import httpx
import mlflow_registry
import pytest

from model_server.errors import StartError
from model_server.storage import fetch, fingerprint

pytestmark = [
    pytest.mark.skipif(bool(mlflow_registry.MISSING), reason=mlflow_registry.MISSING),
    # It imports for up to a minute before it listens.
    pytest.mark.heavy,
    pytest.mark.timeout(600),
]

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "mlflow.md"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with mlflow_registry.running_registry(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture(scope="module")
def wine(registry, tmp_path_factory):
    """Two versions of a model, of which the alias names the first."""
    folder = tmp_path_factory.mktemp("packages")
    registry.create("wine")
    for version, says in (("1", "inputs[:, 0] * 0 + 1"), ("2", "inputs[:, 0] * 0 + 2")):
        assert registry.register("wine", mlflow_registry.package(folder, version, says)) == version
    registry.set_alias("wine", "champion", "1")
    return "models:/wine@champion"


def test_an_alias_is_served_and_a_moved_one_is_a_change(registry, wine, serve):
    server = serve(wine, trusted=True, poll_seconds=0.5, **registry.environ).wait_ready()
    first = server.client.post("/predict", json={"instances": [[1]]}).json()
    assert (first["predictions"], first["model_version"]) == ([1], "1")
    registry.set_alias("wine", "champion", "2")
    try:
        server.wait_until(lambda: re.search(r'source_changed\{.*source="2-', server.client.get("/metrics").text))
        assert server.client.post("/predict", json={"instances": [[1]]}).json()["predictions"] == [1]
    finally:
        registry.set_alias("wine", "champion", "1")


def test_a_webhook_of_mlflow_brings_the_poll_forward(registry, wine, serve):
    secret = "of-a-webhook-and-long-enough"
    environ = {**registry.environ, "MLFLOW_WEBHOOK_SECRET": secret}
    server = serve(wine, trusted=True, poll_seconds=3600, **environ).wait_ready()
    registry.create_webhook(str(server.client.base_url.join("/registry/webhook")), secret)
    registry.set_alias("wine", "champion", "2")
    try:
        server.wait_until(lambda: re.search(r'source_changed\{.*source="2-', server.client.get("/metrics").text))
    finally:
        registry.set_alias("wine", "champion", "1")
    server.wait_until(lambda: not re.search(r"source_changed\{", server.client.get("/metrics").text))


def test_a_tag_and_a_description_make_no_other_model(registry, wine):
    before = fingerprint("models:/wine/2", environ=registry.environ)
    registry.post("model-versions/set-tag", name="wine", version="2", key="a", value="b")
    registry.ask("PATCH", "mlflow/model-versions/update", json={"name": "wine", "version": "2", "description": "good"})
    assert fingerprint("models:/wine/2", environ=registry.environ) == before
    assert fingerprint(wine, environ=registry.environ) != before


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("models:/wine@nobody", "has no model 'wine' with the alias 'nobody'"),
        ("models:/beer@champion", "has no model 'beer' with the alias 'champion'"),
        ("models:/wine/99", "has no version 99 of the model 'wine'"),
    ],
)
def test_what_nobody_registered_is_named(registry, wine, uri, says):
    with pytest.raises(StartError, match=says) as failed:
        fingerprint(uri, environ=registry.environ)
    assert failed.value.reason == "ArtifactNotFound"


@pytest.mark.parametrize("password", ["wrong", ""])
def test_who_may_not_read_is_refused(registry, wine, password):
    environ = {**registry.environ, "MLFLOW_TRACKING_PASSWORD": password}
    with pytest.raises(StartError, match="refused") as failed:
        fingerprint(wine, environ=environ)
    assert failed.value.reason == "ArtifactAccessDenied"


def test_a_user_who_may_only_read_can_serve(registry, wine, tmp_path):
    registry.post("users/create", username="reader", password="a-readers-password")
    given = {"MLFLOW_TRACKING_USERNAME": "reader", "MLFLOW_TRACKING_PASSWORD": "a-readers-password"}
    environ = {"MLFLOW_TRACKING_URI": registry.url, **given}
    assert (fetch(wine, tmp_path, environ=environ, report=lambda _: None) / "model.py").exists()
    body = {"name": "wine", "version": "1", "key": "a", "value": "b"}
    written = httpx.post(
        f"{registry.url}/api/2.0/mlflow/model-versions/set-tag",
        json=body, auth=tuple(given.values()), timeout=60, trust_env=False,
    )  # fmt: skip
    assert written.status_code == 403, "READ is less than what tags take"


def test_what_a_notebook_registers_is_served_as_the_guide_says(registry, serve):
    code = re.search(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    registry.run_python(textwrap.dedent(code[1]))
    server = serve("models:/tumours@champion", **registry.environ).wait_ready()
    answer = server.client.post("/predict", json={"instances": [[0.1] * 30]}).json()
    assert answer["model_version"] == "1"
    assert answer["predictions"] in ([0], [1])
