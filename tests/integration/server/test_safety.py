"""Keys, certificates, and clients that dawdle."""

from __future__ import annotations

import socket
import ssl

import httpx
import pytest
from certificates import certificate
from free_ports import free_port

ECHO = "def load_model(path): return 1\ndef predict(model, inputs): return [0] * len(inputs)\n"
BODY = {"instances": [[1]]}


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "echo"
    folder.mkdir()
    (folder / "model.py").write_text(ECHO)
    return f"file://{folder}"


def mount(folder, version, keys):
    """A Secret as the kubelet mounts it: files are links through `..data`, which is swapped."""
    real = folder / f"..{version}"
    real.mkdir(parents=True)
    for name, key in keys.items():
        (real / name).write_text(key)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..new").symlink_to(real.name)
    (folder / "..new").replace(folder / "..data")


def test_a_key_is_needed_and_may_change_without_a_restart(serve, package, tmp_path):
    secret = tmp_path / "secret"
    mount(secret, "1", {"alice": "key-a\n", "bob": "key-b"})
    server = serve(package, trusted=True, auth_dir=secret).wait_ready()

    def status(**headers):
        return server.client.post("/predict", json=BODY, headers=headers).status_code

    refused = server.client.post("/predict", json=BODY)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["reason"] == "Unauthorized"
    assert status(Authorization="Bearer key-a") == 200
    assert status(**{"x-api-key": "key-b"}) == 200
    assert status(Authorization="Bearer key-c") == 401
    assert status(Authorization="Basic key-a") == 401
    assert server.client.get("/v2/models/model").status_code == 401
    assert [server.client.get(path).status_code for path in ("/livez", "/readyz", "/metrics", "/docs")] == [200] * 4

    mount(secret, "2", {"alice": "key-new"})
    server.wait_until(lambda: status(Authorization="Bearer key-new") == 200)
    assert status(Authorization="Bearer key-a") == 401
    assert "key-" not in server.log.read_text()


def test_an_empty_secret_does_not_open_the_door(serve, package, tmp_path):
    (tmp_path / "secret").mkdir()
    server = serve(package, trusted=True, auth_dir=tmp_path / "secret")
    assert server.wait_exit() == 78
    assert "holds no API key" in server.termination()["message"]


def shown(port):
    """The certificate that a server shows to a new connection; None while it does not listen."""
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_alpn_protocols(["h2", "http/1.1"])
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as plain, client.wrap_socket(plain) as encrypted:
            return ssl.DER_cert_to_PEM_cert(encrypted.getpeercert(binary_form=True))
    except OSError:
        return None


def test_a_certificate_makes_it_https_and_is_renewed_while_it_serves(serve, package, tmp_path):
    folder, grpc_port = tmp_path / "tls", free_port()
    certificate(folder)
    server = serve(package, trusted=True, tls_dir=folder, grpc_port=grpc_port)
    trust = ssl.create_default_context(cafile=str(folder / "tls.crt"))
    with httpx.Client(base_url=f"https://localhost:{server.port}", verify=trust, trust_env=False) as client:
        server.wait_until(lambda: shown(server.port) is not None)
        server.wait_until(lambda: client.get("/readyz").status_code == 200)
        assert shown(grpc_port) == (folder / "tls.crt").read_text()

        (folder / "tls.crt").write_text("half of a certificate")
        server.wait_until(lambda: "the former one stays" in server.log.read_text())
        certificate(folder)
        server.wait_until(lambda: shown(server.port) == (folder / "tls.crt").read_text())
        assert shown(grpc_port) == (folder / "tls.crt").read_text()
        # Over the connection of before, which still has the certificate that this client trusts.
        assert client.post("/predict", json=BODY).json()["predictions"] == [0]


def test_a_certificate_without_its_key_is_a_wrong_setting(serve, package, tmp_path):
    certificate(tmp_path / "tls")
    (tmp_path / "tls" / "tls.key").unlink()
    server = serve(package, trusted=True, tls_dir=tmp_path / "tls")
    assert server.wait_exit() == 78
    assert "tls.key is missing" in server.termination()["message"]


@pytest.fixture(scope="module")
def slow_server(run_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slow")
    (folder / "model.py").write_text(ECHO)
    limits = {"header_timeout_seconds": 0.5, "request_timeout_seconds": 0.5}
    with run_server(tmp_path_factory.mktemp("server"), f"file://{folder}", trusted=True, **limits) as server:
        yield server.wait_ready()


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        pytest.param(b"", b"", id="a client that says nothing"),
        pytest.param(b"POST /predict HTTP/1.1\r\nhost: x\r\nx-slow", b"", id="a head that never ends"),
        pytest.param(
            b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
            b"HTTP/1.1 408",
            id="a body that never ends",
        ),
    ],
)
def test_a_dawdling_client_is_cut(slow_server, sent, answer):
    with socket.create_connection(("127.0.0.1", slow_server.port), timeout=20) as connection:
        connection.sendall(sent)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert received.startswith(answer)
    assert slow_server.client.post("/predict", json=BODY).status_code == 200


HEAD = b"GET /livez HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(
    ("sent", "again", "answer"),
    [
        pytest.param(HEAD + b"x-long: ", b"a" * 65536, b"HTTP/1.1 431", id="a head without measure"),
        pytest.param(
            HEAD.replace(b"GET /livez", b"POST /predict") + b"transfer-encoding: chunked\r\n\r\n0\r\nx-long: ",
            b"a" * 65536,
            b"",
            id="a trailer without measure",
        ),
        pytest.param(b"", (HEAD + b"\r\n") * 1000, b"HTTP/1.1 ", id="requests that nobody waits for the answers of"),
    ],
)
def test_a_greedy_client_is_cut(slow_server, sent, again, answer):
    received = b""
    with socket.create_connection(("127.0.0.1", slow_server.port), timeout=20) as connection:
        try:
            connection.sendall(sent)
            for _ in range(64):
                connection.sendall(again)
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionError:
            pass
    # What was sent into a closed connection takes its last words away.
    assert received.startswith(answer) or not received
    assert received.count(b"HTTP/1.1 200") < 10_000
    assert b"408" not in received, "cut for its size, not for its time"
    assert slow_server.client.post("/predict", json=BODY).status_code == 200
