"""`/metrics` and the pages behind API keys (`AUTH_PROTECT`); what must stay open does."""

from __future__ import annotations

import base64
from hashlib import sha256

import pytest

METRICS = ("/metrics",)
DOCS = ("/openapi.json", "/docs", "/redoc")
#: Probes, and what is the same on every server of this version.
OPEN = (
    "/livez", "/readyz", "/ping", "/health", "/v2/health/live", "/v2/health/ready", "/version", "/v2",
    "/docs-assets/favicon.png",
)  # fmt: skip
KEY, TOKEN = "s3cret", "0123abcd"
BEARER, HEADER = {"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}


@pytest.fixture(scope="module")
def protected(run_server, wine, tmp_path_factory):
    """Servers with keys, by what they protect."""
    from contextlib import ExitStack

    keys = tmp_path_factory.mktemp("keys")
    (keys / "ours").write_text(KEY)
    digest = sha256(TOKEN.encode()).hexdigest()
    with ExitStack() as stack:
        servers = {}

        def serve(what):
            if what not in servers:
                settings = {
                    "auth_dir": keys,
                    "auth_protect": what,
                    "trusted": True,
                    "MODELDEPLOY_SHADOW_TOKEN_SHA256": digest,
                }
                folder = tmp_path_factory.mktemp("server")
                servers[what] = stack.enter_context(run_server(folder, wine.uri, **settings)).wait_ready()
            return servers[what]

        yield serve


def basic(text):
    return {"authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


@pytest.mark.parametrize(
    ("what", "closed"),
    [
        pytest.param("", (), id="nothing by default"),
        pytest.param("metrics", METRICS, id="metrics"),
        pytest.param("docs", DOCS, id="docs"),
        pytest.param("docs,metrics", METRICS + DOCS, id="both"),
    ],
)
def test_what_is_protected_needs_a_key_and_the_rest_does_not(protected, what, closed):
    client = protected(what).client
    for path in METRICS + DOCS + OPEN:
        wanted = 401 if path in closed else 200
        assert client.get(path).status_code == wanted, path
        assert client.head(path).status_code == wanted, path
        assert client.get(path, headers=BEARER).status_code == 200, path
        assert client.get(path, headers=HEADER).status_code == 200, path
    for path in closed:
        assert client.get(path, headers={"x-api-key": "guess"}).status_code == 401, path


def test_the_operator_reads_the_metrics_and_nothing_else(protected):
    client, token = protected("docs,metrics").client, {"x-api-key": TOKEN}
    assert "modeldeploy_model_info" in client.get("/metrics", headers=token).text
    for path in (*DOCS, "/v2/models"):
        assert client.get(path, headers=token).status_code == 401, path
    assert client.post("/predict", headers=token, json={"instances": []}).status_code == 401
    assert client.get("/metrics", headers={"x-api-key": sha256(TOKEN.encode()).hexdigest()}).status_code == 401


def test_a_browser_asks_for_the_key_and_gets_the_pages(protected):
    client = protected("docs,metrics").client
    for path in DOCS:
        refused = client.get(path)
        assert refused.headers["www-authenticate"].startswith("Basic ")
        assert "in a browser it is the password" in refused.json()["hint"]
        assert client.get(path, headers=basic(f"anyone:{KEY}")).status_code == 200
        of_a_gateway = basic("alice:hers")
        assert client.get(path, headers=of_a_gateway | HEADER).status_code == 200
        for wrong in (basic("anyone:guess"), basic(KEY), {"authorization": "Basic ???"}, {"authorization": "Basic"}):
            assert client.get(path, headers=wrong).status_code == 401


@pytest.mark.parametrize("path", ["/metrics", "/v2/models"])
def test_a_password_opens_nothing_but_pages(protected, path):
    refused = protected("docs,metrics").client.get(path, headers=basic(f"anyone:{KEY}"))
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"


def test_the_document_says_what_needs_a_key(protected):
    document = protected("docs,metrics").client.get("/openapi.json", headers=BEARER).json()
    assert "Authorize" in document["info"]["description"]
    schemes = document["components"]["securitySchemes"]
    assert {schemes[name]["type"] for name in schemes} == {"http", "apiKey"}
    metrics = document["paths"]["/metrics"]["get"]
    assert metrics["security"]
    assert "401" in metrics["responses"]
