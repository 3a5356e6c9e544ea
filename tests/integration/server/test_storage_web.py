"""Packages from web servers, with and without ranges, and from mounted claims."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace

import http_servers
import pytest
from pod_events import assert_seen

from model_server.errors import StartError
from model_server.loader import load
from model_server.settings import read_settings
from model_server.storage import fetch, fingerprint, https
from model_server.storage.azure import split
from model_server.storage.progress import Progress
from model_server.storage.web import is_in_networks
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
        if way == "silent" and len(self.seen) == 1:
            self.close_connection = True
            return self.rfile.read(1)  # until the client gives up
        if way == "empty":
            return self.answer(b"", 416 if self.headers.get("range") else 200)
        if way == "models":
            assert self.headers["if-match"] == '"v1"'
        return self.send_content(way)

    def do_HEAD(self):
        self.send_content("whole")

    def send_content(self, way: str) -> None:
        asked = None if "without-ranges" in way else re.match(r"bytes=(\d+)-(\d*)", self.headers.get("range") or "")
        start = int(asked[1]) if asked else 0
        end = min(int(asked[2]) + 1, len(CONTENT)) if asked and asked[2] else len(CONTENT)
        is_first = len(self.seen) == 1
        if way == "changed-if-match" and not is_first:
            self.answer(b"", 412 if self.headers["if-match"] == '"v1"' else 500)
            return
        self.send_response(206 if asked else 200)
        if not way.startswith("length-unknown"):
            self.send_header("content-length", str(end - start))
        if asked:
            shown = (start + 1, end) if way == "other-range" else (start, end - 1)
            size = len(CONTENT) + (way == "changed-size" and not is_first)
            self.send_header("content-range", f"bytes {shown[0]}-{shown[1]}/{size}")
        etag = {"weak": 'W/"v1"', "dated": ""}.get(way, '"v1"')
        self.send_header("etag", '"v2"' if way == "changed" and not is_first else etag)
        if way != "weak":
            self.send_header("last-modified", "Fri, 02 Jan 2026 10:00:00 GMT")
        self.end_headers()
        if self.command == "GET":
            is_cut = (way.startswith(("cut", "models")) and len(self.seen) < 3) or way == "always-cut"
            self.wfile.write(CONTENT[start : start + (end - start) // 3 if is_cut else end])
        self.close_connection = True


@pytest.fixture
def web() -> Iterator[tuple[str, list[str | None]]]:
    handler = type("Served", (Handler,), {"seen": []})
    with http_servers.served(handler) as host:
        yield f"http://{host}", handler.seen


@pytest.fixture(autouse=True)
def without_waits(monkeypatch):
    """The waits between attempts take no time."""
    monkeypatch.setattr("model_server.storage.transfer.time.sleep", lambda seconds: None)


def get(uri, into, told=None):
    return fetch(uri, into, environ={}, report=told.append if told is not None else lambda text: None)


ALL = "bytes=0-33554431"


@pytest.mark.parametrize(
    ("way", "requests"),
    [
        pytest.param("whole", [ALL], id="in one range"),
        pytest.param("without-ranges", [ALL], id="of a server without ranges"),
        pytest.param("length-unknown-without-ranges", [ALL], id="without a length"),
        pytest.param("busy", [ALL, ALL], id="again after a 503"),
        pytest.param("silent", [ALL, ALL], id="again after a server that says nothing"),
        pytest.param("cut", [ALL, "bytes=1706666-33554431", "bytes=2844444-33554431"], id="the rest after a cut"),
        pytest.param("cut-without-ranges", [ALL, "bytes=1706666-", "bytes=1706666-"], id="all again without ranges"),
        pytest.param("weak", [ALL, None], id="in one response where the ETag is weak"),
        pytest.param("dated", [ALL], id="by its time where there is no ETag"),
    ],
)
def test_the_file_arrives_whole(web, tmp_path, monkeypatch, way, requests):
    monkeypatch.setattr("model_server.storage.web.TIMEOUT_SECONDS", 1 if way == "silent" else 30)
    address, seen = web
    path = get(f"{address}/{way}/model.onnx?signature=secret", tmp_path)
    assert path.name == "model.onnx"
    assert path.read_bytes() == CONTENT
    assert seen == requests
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("way", ["whole", "dated"])
def test_a_large_file_is_read_in_ranges_of_one_version(web, tmp_path, monkeypatch, way):
    monkeypatch.setattr("model_server.storage.transfer.RANGE_BYTES", 2_000_000)
    address, seen = web
    assert get(f"{address}/{way}/model.onnx", tmp_path).read_bytes() == CONTENT
    assert seen[0] == "bytes=0-1999999"
    assert sorted(seen[1:]) == ["bytes=2000000-3999999", "bytes=4000000-5119999"]


@pytest.mark.parametrize("way", ["changed", "changed-size", "changed-if-match"])
def test_a_file_that_is_replaced_while_it_is_read_is_an_error(web, tmp_path, monkeypatch, way):
    monkeypatch.setattr("model_server.storage.transfer.RANGE_BYTES", 2_000_000)
    address, seen = web
    with pytest.raises(StartError, match=r"model.onnx was replaced while it was read") as caught:
        get(f"{address}/{way}/model.onnx?signature=secret", tmp_path)
    assert "secret" not in caught.value.message
    assert len(seen) <= 3, "it is not tried again"
    assert not (tmp_path / "model.onnx").exists()


def test_another_range_than_was_asked_for_is_an_error(web, tmp_path):
    with pytest.raises(StartError, match="the server answered with another range"):
        get(f"{web[0]}/other-range/model.onnx", tmp_path)


def test_what_does_not_fit_onto_the_disk_is_not_begun(web, tmp_path, monkeypatch):
    monkeypatch.setattr("model_server.storage.transfer.shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(StartError, match="has 5120000 bytes, and does not fit") as caught:
        get(f"{web[0]}/whole/model.onnx", tmp_path)
    assert caught.value.reason == "ArtifactTooLarge"


def test_progress_counts_each_byte_once(tmp_path):
    """A server without ranges sends all again after a cut."""
    handler = type("Served", (Handler,), {"seen": []})
    progress = Progress(lambda text: None)
    with http_servers.served(handler) as host:
        https.fetch(f"http://{host}/cut-without-ranges/model.onnx", tmp_path, environ={}, progress=progress)
    assert (progress.done, progress.total) == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize(
    ("host", "networks", "is_inside"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8,192.168.0.1", False),
        ("192.168.0.1", "localhost, 192.168.0.1", True),
        ("fd00::1", "fd00::/8", True),
        ("models.example.com", "10.0.0.0/8", False),
    ],
)
def test_no_proxy_holds_networks(host, networks, is_inside):
    assert is_in_networks(host, networks) is is_inside


@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_a_host_in_a_network_of_no_proxy_is_asked_directly(web, tmp_path, monkeypatch, scheme):
    address, seen = web
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.0/8")
    environ = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    uri = "s3://models/model.onnx" if scheme == "s3" else f"{address}/whole/model.onnx"
    assert fetch(uri, tmp_path, environ=environ, report=lambda text: None).read_bytes() == CONTENT
    assert seen


def test_what_is_missing_of_a_cut_object_is_read_of_the_same_version(web, tmp_path):
    address, seen = web
    environ = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    path = fetch("s3://models/model.onnx", tmp_path, environ=environ, report=lambda text: None)
    assert path.read_bytes() == CONTENT
    starts = [int(asked.removeprefix("bytes=").removesuffix("-5119999")) for asked in seen]
    assert starts == sorted({0, *starts}), "each request is for what is missing"
    assert len(starts) == 3


@pytest.mark.parametrize(
    ("way", "reason", "code"),
    [
        pytest.param("404", "ArtifactNotFound", 65, id="not there"),
        pytest.param("403", "ArtifactAccessDenied", 69, id="refused"),
        pytest.param("400", "StorageUnavailable", 69, id="not understood"),
        pytest.param("500", "StorageUnavailable", 69, id="the server fails"),
        pytest.param("loop", "ArtifactNotFound", 65, id="redirects without end"),
        pytest.param("empty", "ArtifactEmpty", 65, id="no bytes"),
        pytest.param("always-cut", "StorageUnavailable", 69, id="always cut"),
    ],
)
def test_what_goes_wrong_is_told_without_secrets(web, tmp_path, way, reason, code):
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
