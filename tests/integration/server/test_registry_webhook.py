"""A signed webhook makes the server look at once; MLflow's own is in `test_mlflow_registry.py`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from pathlib import Path
from typing import ClassVar

import http_servers
import httpx
import mlflow_registry
import pytest

SECRET = "of-a-webhook-and-long-enough"
BODY = {"entity": "model_version_alias", "action": "created", "data": {"name": "wine", "alias": "champion"}}


class Registry(http_servers.Handler):
    """Names one version by an alias, and keeps its files."""

    version = "1"
    looks = 0
    files: ClassVar[dict[str, bytes]] = {}

    def do_GET(self):
        path = self.path.partition("?")[0].removeprefix("/api/2.0/")
        cls = type(self)
        if path == "mlflow/registered-models/alias":
            cls.looks += 1
            return self.answer(json.dumps({"model_version": {"version": cls.version, "source": "s"}}).encode())
        if path == "mlflow/model-versions/get-download-uri":
            return self.answer(b'{"artifact_uri": "mlflow-artifacts:/wine"}')
        if path == "mlflow-artifacts/artifacts":
            files = [{"path": name, "file_size": len(content)} for name, content in self.files.items()]
            return self.answer(json.dumps({"files": files}).encode())
        return self.answer(self.files[path.rpartition("/")[2]])


@pytest.fixture
def registry(tmp_path: Path):
    class Own(Registry):
        files: ClassVar = {
            file.name: file.read_bytes() for file in mlflow_registry.package(tmp_path, "1", "inputs[:, 0]").iterdir()
        }

    with http_servers.served(Own) as address:
        yield Own, {"MLFLOW_TRACKING_URI": f"http://{address}"}


def post(client: httpx.Client, *, secret: str = SECRET, **data: str) -> httpx.Response:
    content, sent = json.dumps(BODY | ({"data": BODY["data"] | data} if data else {})).encode(), str(int(time.time()))
    digest = hmac.new(secret.encode(), b"d1.%s.%s" % (sent.encode(), content), hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(digest).decode()}"
    headers = {"x-mlflow-delivery-id": "d1", "x-mlflow-timestamp": sent, "x-mlflow-signature": signature}
    return client.post("/registry/webhook", content=content, headers=headers)


def test_a_signed_webhook_brings_the_poll_forward(registry, serve, tmp_path) -> None:
    held, environ = registry
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "a").write_text("an-api-key")
    given = {**environ, "MLFLOW_WEBHOOK_SECRET": SECRET}
    server = serve("models:/wine@champion", trusted=True, poll_seconds=3600, auth_dir=tmp_path / "keys", **given)
    server.wait_ready()
    looks, held.version = held.looks, "2"
    assert post(server.client, secret="another-secret-of-theirs").status_code == 401
    assert server.client.post("/registry/webhook", content=b"{}").status_code == 401
    assert server.client.post("/registry/webhook", content=b"x" * 70_000).status_code == 413
    assert post(server.client, alias="challenger").status_code == 204
    assert held.looks == looks
    assert post(server.client).status_code == 204
    server.wait_until(lambda: re.search(r'source_changed\{.*source="2-', server.client.get("/metrics").text))
    looks = held.looks
    assert [post(server.client).status_code for _ in range(50)] == [204] * 50
    server.wait_until(lambda: held.looks > looks)
    assert held.looks <= looks + 2, "many webhooks are one look"
    assert "webhook" not in server.client.get("/openapi.json").text


@pytest.mark.parametrize(
    ("settings", "secret"),
    [
        pytest.param({"poll_seconds": 3600}, "", id="no secret"),
        pytest.param({}, SECRET, id="nothing is polled"),
    ],
)
def test_there_is_no_such_route(registry, serve, settings, secret) -> None:
    given = {**registry[1], "MLFLOW_WEBHOOK_SECRET": secret}
    server = serve("models:/wine@champion", trusted=True, **settings, **given).wait_ready()
    assert post(server.client).status_code == 404
