"""Who may only write ModelDeployments takes no host name of another team on a shared Gateway."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import yaml
from traffic_rules import BOB, GATEWAY, HOST, INFRA

from modeldeploy.kube import MODELDEPLOYMENTS, Resource
from modeldeploy.stand import wait_until

NAMESPACES = Resource("", "v1", "namespaces", namespaced=False)
GATEWAYS = Resource("gateway.networking.k8s.io", "v1", "gateways")
ROUTES = Resource("gateway.networking.k8s.io", "v1", "httproutes")
ROLES = Resource("rbac.authorization.k8s.io", "v1", "roles")
BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings")
VERBS = ["get", "list", "watch", "create", "update", "patch", "delete"]


@dataclass(frozen=True, slots=True)
class Town:
    """A shared Gateway, the model `shop` of Bob behind it, and Alice in her own namespace."""

    space: Any
    address: str

    def model(self, name: str, package: str, routing: dict[str, Any]) -> str:
        """Return a ModelDeployment as YAML."""
        spec = {
            "model": {"storageUri": f"{self.space.cluster.models_uri}/{package}", "trusted": True},
            "strategy": {"canary": {"steps": [], "trafficRouting": {"gatewayAPI": routing, "propagationSeconds": 0}}},
        }
        body = {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": name}}
        return yaml.safe_dump({**body, "spec": spec})

    def as_alice(self, *words: str, given: str | None = None) -> Any:
        return self.space.kubectl("--as", "alice", *words, given=given)

    def answers(self) -> str:
        """Return the name of the model that a client of Bob reaches."""
        found = httpx.get(f"http://{self.address}/v2/models/shop", headers={"Host": HOST}, timeout=10)
        return str(found.json().get("name")) if found.status_code == 200 else f"{found.status_code}"


@pytest.fixture(scope="module")
def town(space: Any) -> Iterator[Town]:
    if space.cluster.running is None:
        pytest.skip("needs the traffic policy of these tests (MODEL_OPERATOR_GATEWAYS)")
    for name in (INFRA, BOB):
        space.kube.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    listener = {"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}
    body = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": GATEWAY}}
    space.kube.apply(GATEWAYS, {**body, "spec": {"gatewayClassName": "sandbox", "listeners": [listener]}}, INFRA)
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "alice"}}
    rules = [{"apiGroups": ["modeldeploy.dev"], "resources": ["modeldeployments"], "verbs": VERBS}]
    space.kube.apply(ROLES, {**rbac, "kind": "Role", "rules": rules}, space.namespace)
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "alice"}
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}
    space.kube.apply(BINDINGS, {**rbac, "kind": "RoleBinding", "roleRef": role, "subjects": [user]}, space.namespace)

    def addresses() -> Any:
        return space.kube.get(GATEWAYS, GATEWAY, INFRA).get("status", {}).get("addresses")

    address = wait_until(addresses, "the Gateway has an address", seconds=30)[0]["value"]
    town = Town(space, str(address))
    routing = {"parentRefs": [{"namespace": INFRA, "name": GATEWAY}], "hostnames": [HOST]}
    done = space.kubectl("apply", "-n", BOB, "-f", "-", given=town.model("shop", "quick/breast-cancer/1", routing))
    assert done.returncode == 0, done.stderr
    wait_until(lambda: town.answers() == "shop", "Bob's clients reach his model", seconds=90)
    yield town
    for name in (BOB, INFRA):
        space.kube.delete(NAMESPACES, name)


def refusal(space: Any, name: str) -> str:
    conditions = space.kube.get(MODELDEPLOYMENTS, name).get("status", {}).get("conditions", ())
    return next((c["message"] for c in conditions if c["reason"] == "TrafficPolicyViolated"), "")


@pytest.mark.timeout(240)
def test_a_host_name_of_another_team_is_not_taken(town: Town) -> None:
    space = town.space
    assert town.as_alice("auth", "can-i", "create", "httproutes").stdout.strip() == "no"
    routing = {"parentRefs": [{"namespace": INFRA, "name": GATEWAY}], "hostnames": [HOST], "pathPrefix": "/v2/models"}
    done = town.as_alice("apply", "-f", "-", given=town.model("shop", "quick/breast-cancer/2", routing))
    assert done.returncode == 0, done.stderr
    message = wait_until(lambda: refusal(space, "shop"), "the route is refused", seconds=60)
    assert f"Gateway {INFRA}/{GATEWAY} (all listeners) is not open to namespace {space.namespace} for {HOST}" in message
    assert "trafficPolicy.gateways of the chart" in message
    assert space.kube.list(ROUTES, space.namespace) == []
    assert town.answers() == "shop"


@pytest.mark.timeout(240)
def test_a_route_that_was_allowed_is_not_led_to_a_host_name_of_others(town: Town) -> None:
    """First a route on a Gateway of her own, then the shared one in its place."""
    space = town.space
    own = {"parentRefs": [{"name": "mine"}], "hostnames": ["mine.example.com"]}
    given = town.model("moving", "quick/breast-cancer/2", own)
    assert town.as_alice("apply", "-f", "-", given=given).returncode == 0
    wait_until(lambda: space.kube.list(ROUTES, space.namespace), "a route on her own Gateway is made", seconds=60)
    shared = {"parentRefs": [{"namespace": INFRA, "name": GATEWAY}], "hostnames": [HOST]}
    assert (
        town.as_alice("apply", "-f", "-", given=town.model("moving", "quick/breast-cancer/2", shared)).returncode == 0
    )
    wait_until(lambda: refusal(space, "moving"), "the route is refused", seconds=60)
    (route,) = space.kube.list(ROUTES, space.namespace)
    assert route["spec"]["hostnames"] == ["mine.example.com"]
    assert [parent["name"] for parent in route["spec"]["parentRefs"]] == ["mine"]
    assert town.answers() == "shop"
