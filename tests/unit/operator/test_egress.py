"""What the operator requests for a user, and what a user cannot make it reach."""

from ipaddress import ip_address, ip_network

import pytest

from model_operator.clients.credentials import secret_of
from model_operator.clients.egress import EgressPolicy, RefusedAddress
from model_operator.clients.kinds import BY_KIND
from model_operator.errors import ProviderError

API_SERVER = "10.96.0.1"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "::1",
        "0.0.0.0",
        "::",
        "169.254.169.254",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "fd20:ce::254",
        "100.100.100.200",
        "168.63.129.16",
        "224.0.0.1",
        API_SERVER,
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::1",
        "::ffff:0:169.254.169.254",
        "64:ff9b:1::a9fe:a9fe",
        "::169.254.169.254",
    ],
)
def test_internal_addresses_are_refused_in_every_spelling(address: str) -> None:
    policy = EgressPolicy(refused=[ip_address(API_SERVER)])
    with pytest.raises(RefusedAddress):
        policy.check_address(address)


@pytest.mark.parametrize("address", ["10.0.0.7", "192.168.1.5", "93.184.216.34", "2001:db8::1"])
def test_services_of_the_cluster_and_of_the_internet_are_reached(address: str) -> None:
    EgressPolicy(refused=[ip_address(API_SERVER)]).check_address(address)


def test_an_administrator_can_allow_a_network() -> None:
    EgressPolicy(allowed=[ip_network("127.0.0.0/8")]).check_address("127.0.0.1")


def test_hosts_can_be_limited() -> None:
    policy = EgressPolicy(hosts=["*.monitoring.svc", "hooks.example.com"])
    policy.check_host("Prometheus.monitoring.svc")
    with pytest.raises(
        ProviderError, match=r"may not request evil\.example\.com: allowed hosts are \*\.monitoring\.svc"
    ):
        policy.check_host("evil.example.com")


@pytest.mark.parametrize("name", ["../../kube-system/secrets/admin", "a/b", "..", "A", "a%2fb", "a..b", "-a", ""])
async def test_a_secret_is_named_and_never_a_path(name: str) -> None:
    async def read(namespace: str, name: str) -> dict[str, str]:
        raise AssertionError(f"{namespace}/{name} was read")

    with pytest.raises(ProviderError, match="no name of a Secret"):
        await secret_of(read, "team-a", name)


def test_every_segment_of_a_path_is_encoded() -> None:
    path = BY_KIND["Service"].path("team-a", "../../kube-system/services/x")
    assert path == "/api/v1/namespaces/team-a/services/..%2F..%2Fkube-system%2Fservices%2Fx"
