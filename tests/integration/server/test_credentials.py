"""Whose credentials reach a store: provider-standard names, KServe's Secrets, workload identity, and nobody's."""

from __future__ import annotations

import base64
import io
import ipaddress
import json
import re
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import http_servers
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from moto.server import DomainDispatcherApplication, create_backend_app
from waiting import wait_until
from werkzeug.serving import make_server

from model_server.errors import StartError
from model_server.storage import fetch
from model_server.storage.folder import open_folder

MODEL = bytes(range(256)) * 100


@dataclass
class Store:
    """An S3 and STS server that remembers who asked; Google's XML API is spoken alike."""

    host: str
    secure_host: str = ""
    certificate: str = ""
    seen: list[dict[str, str]] = field(default_factory=list)

    def wsgi(self, app: Any) -> Any:
        def remember(environ: dict[str, Any], start_response: Any) -> Any:
            names = {"HTTP_AUTHORIZATION": "authorization", "HTTP_X_AMZ_SECURITY_TOKEN": "token"}
            self.seen.append({name: environ.get(key, "") for key, name in names.items()})
            if "Action=" in environ["QUERY_STRING"]:
                # STS takes its parameters from the query as well; moto looks for them in the body alone.
                body = environ.pop("QUERY_STRING").encode()
                environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body)), "QUERY_STRING": ""}
                environ["CONTENT_TYPE"] = "application/x-www-form-urlencoded"
            return app(environ, start_response)

        return remember


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    found = Store("")
    app = found.wsgi(DomainDispatcherApplication(create_backend_app))
    files = own_certificate(tmp_path_factory.mktemp("tls"))
    secure = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=tuple(map(str, files)))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threads = [threading.Thread(target=one.serve_forever, args=(0.02,)) for one in (server, secure)]
    for thread in threads:
        thread.start()
    found.host, found.secure_host = f"127.0.0.1:{server.server_port}", f"127.0.0.1:{secure.server_port}"
    found.certificate = str(files[0])
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{found.host}",
        aws_access_key_id="writer",
        aws_secret_access_key="s",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="models", ACL="public-read")
    client.put_object(Bucket="models", Key="fraud/model.onnx", Body=MODEL, ACL="public-read")
    client.close()
    yield found
    for one, thread in zip((server, secure), threads, strict=True):
        one.shutdown()
        thread.join()
        one.server_close()


def own_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate that signs itself, for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    certificate = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    files = folder / "tls.crt", folder / "tls.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def get(uri: str, into: Path, environ: dict[str, str]) -> bytes:
    return fetch(uri, into, environ=environ, report=lambda text: None).read_bytes()


KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.mark.parametrize(
    ("environ", "authorization", "token"),
    [
        pytest.param(
            {"AWS_ENDPOINT_URL": "http://{host}", **KEYS}, "Credential=AKIDEXAMPLE/", "", id="the provider's names"
        ),
        pytest.param(
            {"AWS_ENDPOINT_URL_S3": "http://{host}", **KEYS, "AWS_SESSION_TOKEN": "shortlived"},
            "Credential=AKIDEXAMPLE/",
            "shortlived",
            id="a session's",
        ),
        pytest.param(
            {"S3_ENDPOINT": "{host}", "S3_USE_HTTPS": "0", "AWS_DEFAULT_REGION": "eu-west-1", **KEYS},
            "/eu-west-1/s3/",
            "",
            id="KServe's Secret: an endpoint without a scheme",
        ),
        pytest.param(
            {"S3_ENDPOINT": "{host}", "S3_USE_HTTPS": "0", "awsAnonymousCredential": "true"},
            "",
            "",
            id="KServe's Secret: nobody's",
        ),
        pytest.param({"AWS_ENDPOINT_URL": "http://{host}", "AWS_SKIP_SIGNATURE": "true"}, "", "", id="nobody's"),
    ],
)
def test_who_asks_s3(store, tmp_path, environ, authorization, token):
    store.seen.clear()
    given = {name: value.format(host=store.host) for name, value in environ.items()}
    assert get("s3://models/fraud/model.onnx", tmp_path, given) == MODEL
    for asked in store.seen:
        assert authorization in asked["authorization"]
        assert bool(asked["authorization"]) == bool(authorization)
        assert asked["token"] == token


def test_a_service_account_is_exchanged_for_a_role_at_sts(store, tmp_path):
    (tmp_path / "token").write_text("the.pods.token")
    store.seen.clear()
    environ = {
        "AWS_ENDPOINT_URL": f"http://{store.host}",
        "AWS_ENDPOINT_URL_STS": f"https://{store.secure_host}",
        "AWS_CA_BUNDLE": store.certificate,
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/models",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
    }
    assert get("s3://models/fraud/model.onnx", tmp_path / "into", environ) == MODEL
    exchange, *reads = store.seen
    assert exchange == {"authorization": "", "token": ""}
    assert reads
    assert all("Credential=ASIA" in one["authorization"] and one["token"] for one in reads)


@pytest.mark.parametrize(
    "trust",
    [
        pytest.param({"AWS_CA_BUNDLE": "{certificate}"}, id="by its own authority"),
        pytest.param({"S3_VERIFY_SSL": "0"}, id="unverified, as KServe's Secret may ask"),
    ],
)
def test_a_store_with_a_certificate_of_its_own_is_read(store, tmp_path, trust):
    given = {name: value.format(certificate=store.certificate) for name, value in trust.items()}
    environ = {"S3_ENDPOINT": store.secure_host, "S3_USE_HTTPS": "1", **KEYS, **given}
    assert get("s3://models/fraud/model.onnx", tmp_path, environ) == MODEL


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        pytest.param({"S3_USE_HTTPS": "maybe"}, "S3_USE_HTTPS is 'maybe'", id="a word that is no switch"),
        pytest.param({"AWS_CA_BUNDLE": "/none.pem"}, "/none.pem cannot be read", id="certificates that are not there"),
    ],
)
def test_a_secret_with_a_mistake_is_told_by_its_key(store, tmp_path, environ, message):
    with pytest.raises(StartError, match=message) as caught:
        get("s3://models/fraud/model.onnx", tmp_path, {"S3_ENDPOINT": store.host, **environ})
    assert caught.value.reason == "SettingsInvalid"


class Metadata(http_servers.Handler):
    """What a node tells a pod of its identity: Google's metadata server, and EKS Pod Identity's agent."""

    def do_GET(self):
        answer = None
        if self.path.startswith("/computeMetadata/v1/instance/service-accounts/default/token"):
            right = self.headers["metadata-flavor"] == "Google"
            answer = {"access_token": "the.nodes.token", "expires_in": 3600, "token_type": "Bearer"} if right else None
        elif self.path == "/v1/credentials" and self.headers["authorization"] == "the.pods.token":
            answer = {
                "AccessKeyId": "ASIAPOD",
                "SecretAccessKey": "s",
                "Token": "short",
                "Expiration": "2099-01-01T00:00:00Z",
            }
        body = json.dumps(answer).encode() if answer else b""
        self.answer(body, 200 if answer else 404)


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    """Host and port of the node's own server."""
    with http_servers.served(Metadata) as host:
        yield host


def test_a_pods_identity_is_exchanged_for_keys_by_the_nodes_agent(store, node, tmp_path):
    (tmp_path / "token").write_text("the.pods.token")
    store.seen.clear()
    environ = {
        "AWS_ENDPOINT_URL": f"http://{store.host}",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{node}/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token"),
    }
    assert get("s3://models/fraud/model.onnx", tmp_path / "into", environ) == MODEL
    assert {one["token"] for one in store.seen} == {"short"}
    assert all("Credential=ASIAPOD" in one["authorization"] for one in store.seen)


# --- Google: its XML API is S3's, so the same server answers ----------------------------------------


@pytest.fixture(scope="module")
def service_account() -> tuple[rsa.RSAPrivateKey, dict[str, str]]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    account = {"type": "service_account", "client_email": "reader@acme.iam", "private_key_id": "1", "private_key": pem}
    return key, account


@pytest.mark.parametrize("variable", ["GOOGLE_APPLICATION_CREDENTIALS", "MODEL_SERVER_CREDENTIALS_DIR"])
def test_a_service_accounts_file_signs_for_google(store, tmp_path, service_account, variable):
    key, account = service_account
    file = tmp_path / "gcloud-application-credentials.json"
    file.write_text(json.dumps(account))
    store.seen.clear()
    environ = {"STORAGE_EMULATOR_HOST": store.host, variable: str(file if variable.startswith("GOOGLE") else tmp_path)}
    assert get("gs://models/fraud/model.onnx", tmp_path / "into", environ) == MODEL
    for asked in store.seen:
        signed, _, signature = asked["authorization"].removeprefix("Bearer ").rpartition(".")
        key.public_key().verify(decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        assert json.loads(decoded(signed.split(".")[1]))["iss"] == "reader@acme.iam"


def test_a_workloads_identity_is_asked_of_the_metadata_server(store, node, tmp_path, monkeypatch):
    # The library reads this name from the process itself, as it finds it in a pod.
    monkeypatch.setenv("GCE_METADATA_HOST", node)
    store.seen.clear()
    environ = {"STORAGE_EMULATOR_HOST": store.host, "GCE_METADATA_HOST": node}
    assert get("gs://models/fraud/model.onnx", tmp_path, environ) == MODEL
    assert {one["authorization"] for one in store.seen} == {"Bearer the.nodes.token"}


@pytest.mark.parametrize("uri", ["gs://models/fraud/model.onnx", "gs://models/fraud"])
def test_a_public_bucket_is_read_by_nobody(store, tmp_path, uri):
    store.seen.clear()
    environ = {"STORAGE_EMULATOR_HOST": f"http://{store.host}", "GOOGLE_SKIP_SIGNATURE": "true"}
    path = fetch(uri, tmp_path, environ=environ, report=lambda text: None)
    assert (path / "model.onnx" if path.is_dir() else path).read_bytes() == MODEL
    assert {asked["authorization"] for asked in store.seen} == {""}


@pytest.mark.parametrize(
    ("uri", "environ"),
    [
        pytest.param("s3://models/log", {"AWS_ENDPOINT_URL": "http://{host}", **KEYS}, id="S3"),
        pytest.param(
            "gs://models/log", {"STORAGE_EMULATOR_HOST": "{host}", "GCE_METADATA_HOST": "{node}"}, id="Google"
        ),
    ],
)
def test_what_is_written_is_what_is_read(store, node, monkeypatch, uri, environ):
    monkeypatch.setenv("GCE_METADATA_HOST", node)
    folder = open_folder(uri, {name: value.format(host=store.host, node=node) for name, value in environ.items()})
    folder.write("2026-01-01/a.jsonl", b"{}")
    assert folder.read("2026-01-01/a.jsonl") == b"{}"
    assert "2026-01-01/a.jsonl" in folder.names()


@pytest.mark.parametrize("uri", ["https://host/x", "az://account", "gs:///x", "hf://owner/name"])
def test_where_nothing_can_be_written_is_a_wrong_setting(uri):
    with pytest.raises(StartError, match="cannot be written to") as caught:
        open_folder(uri, {})
    assert "az://account/container/prefix" in caught.value.hint


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


# --- Azure: a token from Entra, or Azurite, Microsoft's emulator -------------------------------------


class Entra(http_servers.Handler):
    """Hands out a token for an identity, and has one blob for it."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        right = "client_assertion=the.pods.token" in body or "client_secret=right" in body
        assert self.path == "/tenant/oauth2/v2.0/token"
        answer = {"access_token": "entra-token", "expires_in": 3600, "token_type": "Bearer"}
        self.answer(json.dumps(answer if right else {"error": "invalid_client"}).encode(), 200 if right else 401)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        right = self.headers.get("authorization") == "Bearer entra-token"
        self.answer(MODEL if right else b"", 200 if right and self.path == "/models/fraud.onnx" else 403)

    def answer(self, body=b"", status=200):
        self.send_response(status)
        found = re.match(r"bytes=(\d+)-(\d+)", self.headers.get("range") or "")
        if found and status == 200:
            self.send_header("content-range", f"bytes {found[1]}-{found[2]}/{len(body)}")
        self.send_header("content-length", str(len(body)))
        self.send_header("last-modified", "Fri, 02 Jan 2026 10:00:00 GMT")
        self.send_header("etag", '"v1"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_response(self, status, message=None):
        is_part = self.headers.get("range") and status == 200
        super().send_response(206 if is_part else status, message)


@pytest.fixture(scope="module")
def entra() -> Iterator[str]:
    with http_servers.served(Entra) as host:
        yield f"http://{host}"


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param(
            {"AZURE_CLIENT_ID": "id", "AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_SECRET": "right"}, id="a client's"
        ),
        pytest.param(
            {"AZ_CLIENT_ID": "id", "AZ_TENANT_ID": "tenant", "AZ_CLIENT_SECRET": "right"}, id="KServe's older names"
        ),
        pytest.param(
            {"AZURE_CLIENT_ID": "id", "AZURE_TENANT_ID": "tenant", "AZURE_FEDERATED_TOKEN_FILE": "token"},
            id="the workload's identity",
        ),
    ],
)
def test_who_asks_azure(entra, tmp_path, environ):
    (tmp_path / "token").write_text("the.pods.token")
    given = {**environ, "AZURE_AUTHORITY_HOST": entra, "AZURE_STORAGE_ENDPOINT": entra}
    if "AZURE_FEDERATED_TOKEN_FILE" in given:
        given["AZURE_FEDERATED_TOKEN_FILE"] = str(tmp_path / "token")
    assert get("az://account/models/fraud.onnx", tmp_path / "into", given) == MODEL


ACCOUNT = "devstoreaccount1"
# The key that every Azurite has.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Azurite with one blob in a private container and one in a public one."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite is not installed: npm install --global azurite")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("azurite")
    words = ["--inMemoryPersistence", "--silent", "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *words, "--skipApiVersionCheck"], cwd=folder, stdout=log, stderr=log)
    try:
        wait_until(lambda: is_open(port) or process.poll() is not None, (folder / "log").read_text)
        assert process.poll() is None, (folder / "log").read_text()
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        for container, access in (("private", {}), ("public", {"x-ms-blob-public-access": "container"})):
            azure_put(f"{endpoint}/{container}", "restype=container", b"", access)
            azure_put(f"{endpoint}/{container}/fraud/model.onnx", "", MODEL, {"x-ms-blob-type": "BlockBlob"})
        yield {"AZURE_STORAGE_ENDPOINT": endpoint}
    finally:
        process.terminate()
        process.wait(10)


def azure_put(url: str, query: str, body: bytes, headers: dict[str, str]) -> None:
    signed = f"{url}?{query}{'&' if query else ''}{sas()}"
    request = urllib.request.Request(signed, body, {**headers, "x-ms-version": "2021-08-06"}, method="PUT")
    request.add_header("content-type", "application/octet-stream")
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.status == 201


def sas() -> str:
    """An account's shared access signature, as Microsoft's tools make them."""
    import hashlib
    import hmac
    from urllib.parse import urlencode

    ends = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    what = {"sp": "rwlc", "ss": "b", "srt": "sco", "se": ends, "sv": "2019-12-12"}
    text = "\n".join([ACCOUNT, what["sp"], what["ss"], what["srt"], "", ends, "", "", what["sv"], ""])
    mac = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    return urlencode({**what, "sig": base64.b64encode(mac).decode()})


@pytest.mark.parametrize(
    ("container", "environ"),
    [
        pytest.param("private", {"AZURE_STORAGE_ACCOUNT_KEY": KEY}, id="the account's key"),
        pytest.param("private", {"AZURE_STORAGE_ACCESS_KEY": KEY}, id="KServe's name for it"),
        pytest.param("private", {"AZURE_STORAGE_SAS_TOKEN": "sas"}, id="a shared access signature"),
        pytest.param("public", {"AZURE_SKIP_SIGNATURE": "true"}, id="nobody's"),
    ],
)
@pytest.mark.parametrize("key", ["fraud/model.onnx", "fraud"])
def test_azurite_gives_the_model(azurite, tmp_path, container, environ, key):
    given = {name: sas() if value == "sas" else value for name, value in environ.items()}
    path = fetch(f"az://{ACCOUNT}/{container}/{key}", tmp_path, environ=azurite | given, report=lambda text: None)
    assert (path / "model.onnx" if path.is_dir() else path).read_bytes() == MODEL


def test_azurite_takes_what_is_written(azurite):
    folder = open_folder(f"az://{ACCOUNT}/private/log", azurite | {"AZURE_STORAGE_ACCOUNT_KEY": KEY})
    folder.write("2026-01-01/a.jsonl", b"{}")
    assert folder.names() == {"2026-01-01/a.jsonl"}
    assert folder.read("2026-01-01/a.jsonl") == b"{}"


@pytest.mark.parametrize(
    ("name", "environ", "reason"),
    [
        pytest.param("private/none", {"AZURE_STORAGE_ACCOUNT_KEY": KEY}, "ArtifactNotFound", id="no such blob"),
        pytest.param("none/fraud", {"AZURE_STORAGE_ACCOUNT_KEY": KEY}, "ArtifactNotFound", id="no such container"),
        pytest.param(
            "private/fraud",
            {"AZURE_STORAGE_ACCOUNT_KEY": base64.b64encode(b"wrong").decode()},
            "ArtifactAccessDenied",
            id="a wrong key",
        ),
    ],
)
def test_azurite_refuses(azurite, tmp_path, name, environ, reason):
    with pytest.raises(StartError) as caught:
        get(f"az://{ACCOUNT}/{name}", tmp_path, azurite | environ)
    assert caught.value.reason == reason
