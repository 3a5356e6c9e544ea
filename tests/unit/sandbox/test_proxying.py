"""Where the API server's proxy sends a request to a pod or Service."""

from typing import Any

import pytest

from model_sandbox.apiserver.errors import ApiError
from model_sandbox.apiserver.proxying import PATH, of_pod, of_service, split


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("web", ("http", "web", "")),
        ("web:8080", ("http", "web", "8080")),
        ("https:web:8443", ("https", "web", "8443")),
        (":web:http", ("http", "web", "http")),
    ],
)
def test_a_name_may_have_scheme_and_port(name: str, parts: tuple[str, str, str]) -> None:
    assert split(name) == parts


@pytest.mark.parametrize("name", ["ftp:web:21", "a:b:c:d"])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(ApiError, match="invalid proxy request"):
        split(name)


def test_what_follows_proxy_is_the_path_of_the_server_behind() -> None:
    match = PATH.fullmatch("/api/v1/namespaces/default/services/web:http/proxy/v2/models")
    assert match is not None
    assert match["rest"] == "/v2/models"
    assert PATH.fullmatch("/api/v1/namespaces/default/pods/web/proxyx") is None


POD: dict[str, Any] = {
    "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
    "status": {"podIP": "127.0.0.9"},
}
SERVICE: dict[str, Any] = {
    "metadata": {"name": "web"},
    "spec": {"clusterIP": "127.96.0.1", "ports": [{"name": "http", "port": 80}, {"name": "grpc", "port": 9000}]},
}


def test_a_port_is_a_number_or_a_name() -> None:
    assert of_pod(POD, "") == ("127.0.0.9", 8080)
    assert of_pod(POD, "http") == ("127.0.0.9", 8080)
    assert of_pod(POD, "9") == ("127.0.0.9", 9)
    assert of_service(SERVICE, "grpc") == ("127.96.0.1", 9000)
    assert of_service(SERVICE, "80") == ("127.96.0.1", 80)


@pytest.mark.parametrize("port", ["", "none"])
def test_a_service_without_such_a_port_has_no_endpoints(port: str) -> None:
    with pytest.raises(ApiError, match="no endpoints available"):
        of_service(SERVICE, port)


def test_a_pod_without_an_address_is_not_asked() -> None:
    with pytest.raises(ApiError, match="address not allowed"):
        of_pod({**POD, "status": {}}, "http")
