"""Which proxy the operator takes to the API server: the rules of kubectl and client-go."""

import pytest

from model_operator.clients.proxy import proxy_of

PROXY = "http://proxy.example.com:3128"


@pytest.mark.parametrize(
    ("url", "no_proxy", "is_proxied"),
    [
        ("https://api.example.com:6443", "", True),
        ("https://api.example.com:6443", "example.com", False),
        ("https://api.example.com:6443", ".example.com", False),
        ("https://api.example.com:6443", "*.example.com", False),
        ("https://example.com", "example.com", False),
        ("https://example.com", ".example.com", True),
        ("https://notexample.com", "example.com", True),
        ("https://api.example.com:6443", "API.EXAMPLE.COM:6443", False),
        ("https://api.example.com:6443", "api.example.com:443", True),
        ("https://api.example.com", "other.com, api.example.com:443", False),
        ("https://api.example.com", "*", False),
        ("https://10.96.0.1:443", "10.96.0.0/12", False),
        ("https://10.96.0.1:443", "10.0.0.0/16", True),
        ("https://10.96.0.1:443", "10.96.0.1", False),
        ("https://10.96.0.1:6443", "10.96.0.1:443", True),
        ("https://10.96.0.1:443", "no/network", True),
        ("https://[fd00::1]:6443", "fd00::/8", False),
        ("https://[fd00::1]:6443", "fd00::1", False),
        ("https://[fd00::1]:6443", "[fd00::1]:6443", False),
        ("https://[fd00::1]:6443", "[fd00::1]:443", True),
        ("https://127.0.0.1:6443", "", False),
        ("https://[::1]:6443", "", False),
        ("https://localhost:6443", "", False),
    ],
)
def test_no_proxy_is_read_as_go_reads_it(url: str, no_proxy: str, is_proxied: bool) -> None:
    assert (proxy_of(url, {"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy}) == PROXY) is is_proxied


def test_the_scheme_chooses_the_variable() -> None:
    environment = {"https_proxy": "proxy.example.com:3128", "HTTP_PROXY": "http://plain.example.com"}
    assert proxy_of("https://api.example.com", environment) == PROXY
    assert proxy_of("http://api.example.com", environment) == "http://plain.example.com"
    assert proxy_of("https://api.example.com", {}) is None
