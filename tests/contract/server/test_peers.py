"""What the clients and the test suites of other servers send, as data by peer, to real models in the application."""

from __future__ import annotations

from pathlib import Path

import httpx
import joblib
import numpy as np
import pytest
import yaml
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline

from model_server.auth import AllowAll
from model_server.batching import Batcher, BatchLimits
from model_server.dataplane import DataPlane
from model_server.http.app import create_app
from model_server.http.body import RequestLimits
from model_server.lifecycle import Lifecycle, ServingModel
from model_server.loader import load
from model_server.monitoring.monitor import Monitor
from model_server.settings import read_settings
from model_server.telemetry import Telemetry
from model_server.tracing import PropagateOnlyTracer

CHECKS = {
    f"{path.stem}: {check['name']}": check
    for path in sorted((Path(__file__).parent / "peers").glob("*.yaml"))
    for check in yaml.safe_load(path.read_text())
}
ROWS = np.array([[0.0, 1], [1, 0], [2, 2], [3, 1]])
UNTYPED = """
import numpy as np
def load_model(path): return None
def predict(model, inputs):
    kind = inputs.dtype.name.split("[")[0]
    return [kind for row in inputs]
"""
SIGNATURE = """
flavors:
  sklearn: {pickled_model: model.joblib}
signature:
  params: '[{"name": "temperature", "type": "double", "default": 0.1, "shape": null}]'
"""


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """A package of each kind of model, by name."""
    root = tmp_path_factory.mktemp("peers")
    for name in ("numbers", "named", "text", "labels", "untyped"):
        (root / name).mkdir()
    regression = LinearRegression().fit(ROWS, ROWS[:, 0])
    joblib.dump(regression, root / "numbers" / "model.joblib")
    (root / "numbers" / "MLmodel").write_text(SIGNATURE)
    joblib.dump({"model": regression, "columns": ["a", "b"]}, root / "named" / "model.joblib")
    texts = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["good nice", "bad awful"] * 9, [1, 0] * 9)
    joblib.dump(texts, root / "text" / "model.joblib")
    labels = LogisticRegression().fit(ROWS, ["yes", "yes", "no", "no"])
    labels.coef_, labels.intercept_ = np.array([[0.0, -9.0]]), np.array([0.0])
    joblib.dump(labels, root / "labels" / "model.joblib")
    (root / "untyped" / "model.py").write_text(UNTYPED)
    return root


@pytest.fixture
async def client(packages, tmp_path):
    """A client of the application with a package's model, without a socket."""
    planes = []

    def serve(name):
        environ = {"MODEL_SERVER_STORAGE_URI": f"file://{packages / name}", "MODEL_SERVER_TRUSTED": "true"}
        settings = read_settings(environ | {"MODEL_SERVER_NAME": "m", "MODEL_SERVER_VERSION": "1"})
        loaded = load(settings, tmp_path / "scratch", environ=environ, report=lambda phase, text: None)
        telemetry, lifecycle = Telemetry(), Lifecycle()
        plane = DataPlane(lifecycle, telemetry, PropagateOnlyTracer(), AllowAll(), name="m", max_rows=10)
        app = create_app(plane, telemetry, RequestLimits(max_bytes=10_000, timeout_seconds=5))
        limits = BatchLimits(max_rows=8, max_delay_seconds=0, max_queue=8, timeout_seconds=5)
        batcher = Batcher(loaded.model, limits, telemetry)
        lifecycle.serve(ServingModel(loaded, batcher, Monitor(loaded, settings, telemetry)))
        telemetry.ready(True)
        planes.append(plane)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://server")

    yield serve
    for plane in planes:
        plane.close()
        plane.lifecycle.close()


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
async def test_a_peers_client_gets_what_it_expects(client, check):
    body = {}
    if "body" in check:
        body = {"json": check["body"]}
    elif "text" in check or "raw" in check:
        body = {"content": check["text"] if "text" in check else np.array(check["raw"], np.float64).tobytes()}
    async with client(check["model"]) as http:
        answer = await http.request(check.get("method", "POST"), check["path"], headers=check.get("headers"), **body)
    assert answer.status_code == check.get("status", 200), answer.text
    for name, value in check.get("headers_out", {}).items():
        assert answer.headers[name] == value
    if "json_list" in check:
        assert answer.json() == [check["json_list"]]
    for name, value in check.get("json", {}).items():
        assert rounded(answer.json()[name]) == value
    if answer.status_code >= 400:
        assert answer.json()["error"]


def rounded(value):
    """Floats of a fitted model as they were meant."""
    if isinstance(value, list):
        return [rounded(one) for one in value]
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return round(value, 6) if isinstance(value, float) else value
