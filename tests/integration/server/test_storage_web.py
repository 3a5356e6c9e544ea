"""Packages from web servers, with and without ranges, and from mounted claims."""

from __future__ import annotations

import re
from collections.abc import Iterator

import http_servers
import pytest
from pod_events import assert_seen

from model_server.errors import StartError
from model_server.loader import load
from model_server.settings import read_settings
from model_server.storage import fetch, fingerprint
from model_server.storage.azure import split
from model_server.termination import exit_code

CONTENT = bytes(range(256)) * 20_000


class Handler(http_servers.Handler):
    """Serves CONTENT in the way its path names; `seen` are the ranges that were asked for."""

    protocol_version = "HTTP/1.1"
    seen: list[str | None]

    def do_GET(self):
        way = self.path.split("?")[0].strip("/").split("/")[0]
        self.seen.append(self.headers.get("range"))
        if way.isdigit():
            return self.answer(b"no", int(way))
        if way == "loop":
            return self.answer(b"", 302, location=self.path)
        if way == "busy" and len(self.seen) == 1:
            return self.answer(b"later", 503)
        if way == "models":
            assert self.headers["if-match"] == '"v1"'
            return self.send_object(CONTENT)
        if way == "empty":
            return self.answer(b"")
        return self.send_content(way)

    def send_content(self, way):
        start = 0
        asked = re.match(r"bytes=(\d+)-", self.headers.get("range") or "")
        if asked and way == "cut":
            start = int(asked[1])
            assert self.headers["if-range"] == '"v1"'
        self.send_response(206 if start else 200)
        self.send_header("content-length", str(len(CONTENT) - start))
        self.send_header("etag", '"v1"')
        self.end_headers()
        broken = way in ("cut", "cut-without-ranges") and len(self.seen) < 3
        end = start + len(CONTENT) // 3 if broken or way == "always-cut" else len(CONTENT)
        self.wfile.write(CONTENT[start:end])
        self.close_connection = True

    def do_HEAD(self):
        self.send_object(b"")

    def send_object(self, content):
        """As object stores answer; the first two answers break off."""
        asked = re.match(r"bytes=(\d+)-(\d+)", self.headers.get("range") or "")
        start, end = (int(asked[1]), int(asked[2]) + 1) if asked else (0, len(CONTENT))
        self.send_response(206 if asked else 200)
        self.send_header("content-length", str(end - start))
        self.send_header("content-range", f"bytes {start}-{end - 1}/{len(CONTENT)}")
        self.send_header("etag", '"v1"')
        self.send_header("last-modified", "Fri, 02 Jan 2026 10:00:00 GMT")
        self.end_headers()
        self.wfile.write(content[start : end if len(self.seen) > 2 else start + (end - start) // 3])
        self.close_connection = True


@pytest.fixture
def web() -> Iterator[tuple[str, list[str | None]]]:
    handler = type("Served", (Handler,), {"seen": []})
    with http_servers.served(handler) as host:
        yield f"http://{host}", handler.seen


def get(uri, into, told=None):
    return fetch(uri, into, environ={}, report=told.append if told is not None else lambda text: None)


@pytest.mark.parametrize(
    ("way", "requests"),
    [
        pytest.param("whole", [None], id="in one go"),
        pytest.param("busy", [None, None], id="again after a 503"),
        pytest.param("cut", [None, "bytes=1706666-", "bytes=3413332-"], id="the rest after a cut"),
        pytest.param("cut-without-ranges", [None, "bytes=1706666-", "bytes=1706666-"], id="all again without ranges"),
    ],
)
def test_the_file_arrives_whole(web, tmp_path, way, requests):
    address, seen = web
    path = get(f"{address}/{way}/model.onnx?signature=secret", tmp_path)
    assert path.name == "model.onnx"
    assert path.read_bytes() == CONTENT
    assert seen == requests
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_missing_of_a_cut_object_is_read_of_the_same_version(web, tmp_path):
    address, seen = web
    environ = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    path = fetch("s3://models/model.onnx", tmp_path, environ=environ, report=lambda text: None)
    assert path.read_bytes() == CONTENT
    assert seen == ["bytes=0-5119999", "bytes=1706666-5119999", "bytes=2844444-5119999"]


@pytest.mark.parametrize(
    ("way", "reason", "code"),
    [
        pytest.param("404", "ArtifactNotFound", 65, id="not there"),
        pytest.param("403", "ArtifactAccessDenied", 69, id="refused"),
        pytest.param("500", "StorageUnavailable", 69, id="the server fails"),
        pytest.param("loop", "ArtifactNotFound", 65, id="redirects without end"),
        pytest.param("empty", "ArtifactEmpty", 65, id="no bytes"),
        pytest.param("always-cut", "StorageUnavailable", 69, id="always cut"),
    ],
)
def test_what_goes_wrong_is_told_without_secrets(web, tmp_path, monkeypatch, way, reason, code):
    monkeypatch.setattr("model_server.storage.https.time.sleep", lambda seconds: None)
    with pytest.raises(StartError) as caught:
        get(f"{web[0]}/{way}/model.onnx?signature=secret", tmp_path)
    assert (caught.value.reason, exit_code(caught.value)) == (reason, code)
    assert_seen(caught.value)
    assert "secret" not in caught.value.message
    assert not (tmp_path / "model.onnx").exists()


def test_a_mark_costs_one_byte(web):
    address, seen = web
    first = fingerprint(f"{address}/whole/model.onnx", environ={})
    assert fingerprint(f"{address}/whole/model.onnx", environ={}) == first
    assert set(seen) == {"bytes=0-0"}
    with pytest.raises(StartError, match="does not exist"):
        fingerprint(f"{address}/404/model.onnx", environ={})


def test_a_claim_is_read_where_it_is_mounted(tmp_path):
    (tmp_path / "data" / "m").mkdir(parents=True)
    (tmp_path / "data" / "m" / "model.onnx").write_bytes(b"\x08")
    environ = {"MODEL_SERVER_CLAIMS_DIR": str(tmp_path)}
    path = fetch("pvc://data/m/model.onnx", tmp_path / "into", environ=environ, report=lambda text: None)
    assert path == tmp_path / "data" / "m" / "model.onnx"
    for uri, reason in (("pvc://data/none", "ArtifactNotFound"), ("pvc://data/../other", "SettingsInvalid")):
        with pytest.raises(StartError) as caught:
            fetch(uri, tmp_path / "into", environ=environ, report=lambda text: None)
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("az://account/container/a/b", ("account", "container", "a/b")),
        ("https://account.blob.core.windows.net/container/a/b", ("account", "container", "a/b")),
    ],
)
def test_azure_names_are_taken_apart(uri, parts):
    assert split(uri) == parts


@pytest.mark.parametrize(
    "uri", ["az://account/container", "gs://bucket", "https://host/", "pvc:///x", "hf://x", "oci://x"]
)
def test_a_source_that_names_no_model_is_a_wrong_setting(tmp_path, uri):
    with pytest.raises(StartError) as caught:
        get(uri, tmp_path)
    assert caught.value.reason == "SettingsInvalid"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        pytest.param("az://account?sig=hidden", "storageUri 'az://account' names no blob", id="a signature"),
        pytest.param(
            "https://me:hidden@host/m.onnx", "'https://host/m.onnx' holds a user or a password", id="a password"
        ),
        pytest.param("ftp://me:hidden@host/m", "storageUri 'ftp://host/m' has the unknown scheme", id="another scheme"),
        pytest.param("https://host/%2e%2e", "names no file", id="a way up"),
        pytest.param("https://host/a%00b", "names no file", id="a byte no name can have"),
    ],
)
def test_an_error_names_the_uri_without_its_secrets(tmp_path, uri, message):
    for look in (lambda: get(uri, tmp_path), lambda: fingerprint(uri, environ={})):
        with pytest.raises(StartError) as caught:
            look()
        assert message in caught.value.message
        assert "hidden" not in f"{caught.value}{caught.value.hint}"


def test_a_signature_is_in_no_phase_and_no_metric(web, tmp_path):
    address, _ = web
    environ = {"MODEL_SERVER_STORAGE_URI": f"{address}/whole/model.onnx?sig=hidden", "MODEL_SERVER_SHA256": "0" * 64}
    told: list[str] = []
    with pytest.raises(StartError, match=f"{address}/whole/model.onnx has sha256 ") as caught:
        load(read_settings(environ), tmp_path, environ=environ, report=lambda phase, text: told.append(text))
    assert f"fetching {address}/whole/model.onnx" in told
    assert "hidden" not in f"{told}{caught.value}"
