"""OpenID Connect: id-tokens of a kubeconfig, and their refresh at a provider over TLS."""

import base64
import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import yaml
from tls_front import Authority, Front, inline, serving

Run = Any  # the fixture `run`: how a command ended


def id_token(expires: float) -> str:
    parts = ({"alg": "none"}, {"sub": "jane", "exp": int(expires)})
    return ".".join([*(base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in parts), "x"])


OVER, FRESH = id_token(1), id_token(time.time() + 3600)


@contextmanager
def a_provider(authority: Authority) -> Iterator[tuple[str, list[dict[str, list[str]]]]]:
    """An OpenID provider over TLS: discovery, and refresh tokens for new id-tokens, each once."""
    asked: list[dict[str, list[str]]] = []
    valid = ["first"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200, {"token_endpoint": f"https://{self.headers['Host']}/token"})

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            asked.append(form)
            if form["refresh_token"] != valid:
                return self.answer(400, {"error": "invalid_grant", "error_description": "Session is over"})
            valid[0] = "second"
            tokens = {"id_token": FRESH, "access_token": "a", "refresh_token": "second"}
            return self.answer(200, {**tokens, "token_type": "Bearer"})

        def answer(self, status: int, body: dict[str, str]) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.issue("provider", hosts=("127.0.0.1",)))
    with serving(Handler, tls) as port:
        yield f"https://127.0.0.1:{port}/", asked


def oidc(issuer: str, **config: str) -> dict[str, Any]:
    fields = {"client-id": "cli", "idp-issuer-url": issuer, "refresh-token": "first", **config}
    return {"auth-provider": {"name": "oidc", "config": fields}}


def test_an_id_token_signs_in(run: Run, server: Front, tmp_path: Path) -> None:
    server.accepts.add(f"Bearer {FRESH}")
    user = oidc("https://127.0.0.1:9", **{"id-token": FRESH})
    assert run("get", kubeconfig=server.kubeconfig(tmp_path / "config", user)).code == 0


@pytest.mark.parametrize("old", [{"id-token": OVER}, {}], ids=["over", "not there yet"])
def test_an_id_token_is_refreshed_and_kept(run: Run, server: Front, tmp_path: Path, old: dict[str, str]) -> None:
    server.accepts.add(f"Bearer {FRESH}")
    (tmp_path / "ca.crt").write_bytes(server.authority.certificate.read_bytes())
    with a_provider(server.authority) as (issuer, asked):
        user = oidc(issuer, **old, **{"idp-certificate-authority": "ca.crt"})
        file = server.kubeconfig(tmp_path / "config", user)
        for _ in range(2):
            done = run("get", kubeconfig=file)
            assert done.code == 0, done.err
    assert [form["grant_type"] for form in asked] == [["refresh_token"]]
    kept = yaml.safe_load(file.read_text())["users"][0]["user"]
    assert kept == oidc(issuer, **{"idp-certificate-authority": "ca.crt", "id-token": FRESH, "refresh-token": "second"})


def test_a_provider_is_not_trusted_without_a_known_certificate(run: Run, server: Front, tmp_path: Path) -> None:
    with a_provider(server.authority) as (issuer, asked):
        done = run("get", kubeconfig=server.kubeconfig(tmp_path / "config", oidc(issuer, **{"id-token": OVER})))
    assert (done.code, asked) == (3, [])
    assert f"user 'here': no new token from {issuer.rstrip('/')}: " in done.err
    assert "certificate verify failed" in done.err


def test_a_session_that_is_over_is_told(run: Run, server: Front, tmp_path: Path) -> None:
    with a_provider(server.authority) as (issuer, _):
        trust = {"idp-certificate-authority-data": inline(server.authority.certificate)}
        user = oidc(issuer, **trust, **{"id-token": OVER, "refresh-token": "stolen"})
        done = run("get", kubeconfig=server.kubeconfig(tmp_path / "config", user))
    assert done.code == 3
    assert "Session is over; log in again" in done.err


@pytest.mark.parametrize(
    ("provider", "said"),
    [
        pytest.param({"name": "azure"}, "auth-provider 'azure' is not supported; write oidc", id="one of old times"),
        pytest.param(oidc("x", **{"id-token": "no.jwt"})["auth-provider"], "no JSON Web Token", id="no token"),
        pytest.param({"name": "oidc"}, "Expected key config", id="nothing but a name"),
    ],
)
def test_a_provider_that_gives_nothing_is_told(
    run: Run, server: Front, tmp_path: Path, provider: dict[str, Any], said: str
) -> None:
    done = run("get", kubeconfig=server.kubeconfig(tmp_path / "config", {"auth-provider": provider}))
    assert (done.code, server.asked) == (3, [])
    assert said in done.err
