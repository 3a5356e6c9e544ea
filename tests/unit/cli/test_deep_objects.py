"""An object that is nested as deeply as an API server allows keeps no other from being shown."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from modeldeploy.app import build
from modeldeploy.dashboard.watching import FEEDS
from modeldeploy.kube import MODELDEPLOYMENTS, Kube
from modeldeploy.plain import TOO_DEEP, plain


def deep(levels: int) -> str:
    return '{"a":[' * (levels // 2) + '"}\\"]"' + "]}" * (levels // 2)


def resource(name: str, more: str = "0") -> str:
    """Return a ModelDeployment as an API server writes it."""
    about = json.dumps({"name": name, "namespace": "team", "uid": name, "resourceVersion": "7", "generation": 1})
    kind = '"apiVersion":"modeldeploy.dev/v1alpha1","kind":"ModelDeployment"'
    return f'{{{kind},"metadata":{about},"spec":{{"model":{{"storageUri":"s3://m/1"}},"more":{more}}}}}'


OBJECTS = [resource("first"), resource("hostile", deep(8_000)), resource("worse", deep(900)), resource("last")]


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if "watch" in self.path:
            text = "".join(f'{{"type":"ADDED","object":{one}}}\n' for one in OBJECTS)
        else:
            text = f'{{"kind":"List","items":[{",".join(OBJECTS)}],"metadata":{{"resourceVersion":"9"}}}}'
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    path = tmp_path / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "current-context": "c",
            }
        )
    )
    yield path
    server.shutdown()
    server.server_close()
    thread.join()


def test_lists_and_watches_have_the_others(kubeconfig: Path) -> None:
    read = next(feed for feed in FEEDS if feed.what == "models").read
    with Kube.connect(kubeconfig) as kube:
        listed = kube.list(MODELDEPLOYMENTS)
        changed = [event["object"] for event in kube.watch(MODELDEPLOYMENTS, version="9")]
    for found in (listed, changed):
        assert [read(one).summary.name for one in found] == ["first", "hostile", "worse", "last"]


def test_the_command_line_shows_all(kubeconfig: Path) -> None:
    result = CliRunner().invoke(build(), ["get", "--kubeconfig", str(kubeconfig)])
    assert result.exception is None
    assert [name in result.output for name in ("first", "hostile", "worse", "last")] == [True] * 4


def test_what_is_shown_ends_somewhere() -> None:
    found = plain(json.loads(deep(900)))
    for _ in range(50):
        found = found["a"][0]
    assert found == TOO_DEEP
