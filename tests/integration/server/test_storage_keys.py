"""Object stores: every character of a key stands for itself, folders are no files, and each failure says what to do."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from moto.server import ThreadedMotoServer

from model_server.errors import ArtifactCorrupt, SettingsInvalid, StartError
from model_server.package.digest import digest, list_files
from model_server.storage import fetch, fingerprint
from model_server.storage.azure import split
from model_server.storage.failures import disk_failure, hint_for
from model_server.storage.folder import open_folder
from model_server.storage.redaction import redacted
from modeldeploy.package.uploading import open_store


@pytest.fixture(scope="module")
def bucket():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1"
    )
    client.create_bucket(Bucket="models")
    environ = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    yield client, environ
    client.close()
    server.stop()


KEYS = [
    "run",
    "run#7",
    "run?x",
    "run&y=1",
    "a b",
    "a%20b",
    "a+b",
    "ts=2024-01-01 00%3A00",
    "ä",
    "%C3%A4",
    "[1]",
    "a@b",
    "a;b",
]


def test_every_character_of_a_key_stands_for_itself(bucket, tmp_path):
    client, environ = bucket
    for key in KEYS:
        client.put_object(Bucket="models", Key=f"{key}/model.txt", Body=key.encode())
    found = {}
    for number, key in enumerate(KEYS):
        folder = fetch(f"s3://models/{key}", tmp_path / str(number), environ=environ, report=lambda text: None)
        found[key] = (folder / "model.txt").read_text()
    assert found == {key: key for key in KEYS}
    assert len({fingerprint(f"s3://models/{key}", environ=environ) for key in KEYS}) == len(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_what_is_written_to_is_what_the_uri_says(bucket, key):
    client, environ = bucket
    open_folder(f"s3://models/out/{key}", environ).write("x", b"1")
    _store, prefix = open_store(f"s3://models/out/{key}", environ)
    assert prefix == f"out/{key}"
    listed = client.list_objects_v2(Bucket="models", Prefix=f"out/{key}/")["Contents"]
    assert [one["Key"] for one in listed] == [f"out/{key}/x"]
    assert split(f"az://account/container/{key}") == ("account", "container", key)
    assert redacted(f"gs://bucket/{key}") == f"gs://bucket/{key}"


@pytest.mark.parametrize("uri", ["s3://models/out//v1", "gs://models/a/../b", "az://account/container/./x"])
def test_a_key_that_cannot_be_asked_for_is_refused(tmp_path, uri):
    with pytest.raises(SettingsInvalid, match="in its key, which cannot be read"):
        fetch(uri, tmp_path, environ={}, report=lambda text: None)


@pytest.mark.parametrize("name", ["run#7", "run?x", "a b", "ä"])
def test_a_local_path_may_hold_what_a_url_could_not(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "model.txt").write_text("1")
    assert fetch(f"file://{tmp_path}/{name}", tmp_path, environ={}, report=print) == tmp_path / name
    environ = {"MODEL_SERVER_CLAIMS_DIR": str(tmp_path.parent)}
    assert fetch(f"pvc://{tmp_path.name}/{name}", tmp_path, environ=environ, report=print) == tmp_path / name


def test_a_path_without_a_scheme_says_how_to_write_it(tmp_path):
    with pytest.raises(SettingsInvalid, match="has no scheme") as caught:
        fetch("/models/fraud", tmp_path, environ={}, report=print)
    assert "write file:///models/fraud" in caught.value.hint


def test_markers_of_folders_are_no_files(bucket, tmp_path):
    client, environ = bucket
    for prefix, markers in (("plain", ()), ("marked", ("", "assets/", "lonely/", "assets/deep/"))):
        for marker in markers:
            client.put_object(Bucket="models", Key=f"{prefix}/{marker}", Body=b"")
        for name, content in (
            ("assets/deep/a.txt", b"a"),
            ("assets/empty.txt", b""),
            ("__init__.py", b""),
            ("m", b"1"),
        ):
            client.put_object(Bucket="models", Key=f"{prefix}/{name}", Body=content)
    folders = {
        prefix: fetch(f"s3://models/{prefix}", tmp_path / prefix, environ=environ, report=lambda text: None)
        for prefix in ("plain", "marked")
    }
    assert list_files(folders["marked"]) == ["__init__.py", "assets/deep/a.txt", "assets/empty.txt", "m"]
    assert digest(folders["marked"]) == digest(folders["plain"])


def test_a_name_that_is_a_file_and_a_folder_is_refused(bucket, tmp_path):
    client, environ = bucket
    for key in ("both/a", "both/a/b"):
        client.put_object(Bucket="models", Key=key, Body=b"1")
    with pytest.raises(ArtifactCorrupt, match="a is both an object and a folder of objects"):
        fetch("s3://models/both", tmp_path, environ=environ, report=lambda text: None)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] unable to get local issuer certificate", "MODEL_SERVER_CA_FILE"),
        ("invalid peer certificate: UnknownIssuer", "MODEL_SERVER_CA_FILE"),
        ("[Errno -2] Name or service not known", "cluster's DNS"),
        ("dns error: failed to lookup address information", "cluster's DNS"),
        ("[Errno 111] Connection refused", "Nothing answers"),
        ("timed out", "NetworkPolicy"),
        ("Error performing PUT http://169.254.169.254/latest/api/token in 5s: connection refused", "no credentials"),
        ("something else", ""),
    ],
)
def test_each_kind_of_failure_says_what_to_look_at(monkeypatch, text, hint):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert hint in hint_for(text)
    assert bool(hint) == bool(hint_for(text))
    monkeypatch.setenv("https_proxy", "http://user:secret@proxy.corp:3128")
    told = hint_for("Tunnel connection failed: 407")
    assert "proxy http://proxy.corp:3128" in told
    assert "secret" not in told


def test_a_disk_that_cannot_be_written_is_no_storage_that_does_not_answer(bucket, tmp_path):
    client, environ = bucket
    client.put_object(Bucket="models", Key="m/model.txt", Body=b"1")
    (tmp_path / "m").write_text("in the way")
    with pytest.raises(StartError) as caught:
        fetch("s3://models/m", tmp_path, environ=environ, report=lambda text: None)
    assert "endpoint" not in caught.value.hint
    denied = disk_failure(PermissionError(13, "Permission denied"), "s3://models/m", Path("/x"))
    assert (str(os.getuid()) in denied.message, "fsGroup" in denied.hint) == (True, True)


class Files(SimpleHTTPRequestHandler):
    """Serves files; two addresses redirect to one of them, with and without encryption."""

    def do_GET(self):
        scheme = {"/secure.onnx": "https", "/plain.onnx": "http"}.get(self.path)
        if scheme is None:
            return super().do_GET()
        self.send_response(302)
        self.send_header("location", f"{scheme}://{self.headers['host']}/model.onnx?signature=s3cret")
        self.send_header("content-length", "0")
        return self.end_headers()


@pytest.fixture
def secure_uri(tmp_path, same):
    """A model on a web server whose certificate is its own authority's, in `tls.crt`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    (tmp_path / "tls.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (tmp_path / "tls.key").write_bytes(pem)
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "model.onnx").write_bytes(same)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(tmp_path / "web")))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}/model.onnx"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_certificate_authority_of_ones_own(serve, tmp_path, secure_uri):
    """One setting for https; without it the hint names it."""
    server = serve(secure_uri)
    assert server.wait_exit() == 69
    assert "MODEL_SERVER_CA_FILE" in server.termination()["hint"]
    assert serve(secure_uri, ca_file=tmp_path / "tls.crt").wait_ready()
    missing = serve(secure_uri, ca_file=tmp_path / "none.pem")
    assert missing.wait_exit() == 78


@pytest.mark.parametrize("path", ["/plain.onnx", "/secure.onnx"])
def test_https_stays_https(serve, tmp_path, secure_uri, path):
    server = serve(secure_uri.replace("/model.onnx", path), ca_file=tmp_path / "tls.crt")
    if path == "/secure.onnx":
        assert server.wait_ready()
        return
    assert server.wait_exit() == 65, server.describe()
    told = server.termination()
    assert "redirects to http://" in told["message"]
    assert "which is not encrypted" in told["message"]
    assert "s3cret" not in str(told)
    assert "https:// address" in told["hint"]


def test_nothing_listens():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(StartError) as caught:
        fingerprint(f"https://127.0.0.1:{port}/model.onnx", environ={})
    assert "Nothing answers" in caught.value.hint
