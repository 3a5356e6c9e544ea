"""Rollouts under constant load, with the operator killed at each step: no request is lost.

These tests kill their operator, so they stand on a sandbox of their own.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from model_packages import VERSIONS, own_predictions, some_rows
from waiting import wait_until

from model_sandbox.proxy.gateway import BUILD_SECONDS
from modeldeploy.demo.load import Load
from modeldeploy.kube import MODELDEPLOYMENTS, PODS, SERVICES, Kube, Resource
from modeldeploy.stand import Operator, stand

GATEWAYS = Resource("gateway.networking.k8s.io", "v1", "gateways")
ROUTES = Resource("gateway.networking.k8s.io", "v1", "httproutes")
RATE = 200
STEPS = [{"setWeight": 25}, {"pause": {"duration": "1s"}}, {"setWeight": 50}, {"pause": {"duration": "1s"}}]
GATE = [{"setWeight": 50}, {"pause": {}}]


@dataclass
class Arena:
    """A sandbox, and an operator that may die."""

    kube: Kube
    models: Path
    operator: Operator

    def apply(self, name: str, version: str, steps: list[dict[str, Any]], replicas: int = 1, **more: Any) -> None:
        canary = {"steps": steps, "maxSurge": 1, **more}
        body = {
            "apiVersion": "modeldeploy.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "model": {
                    "storageUri": (self.models / "quick" / "breast-cancer" / version).as_uri(),
                    "trusted": True,
                },
                "replicas": replicas,
                "strategy": {"canary": canary},
            },
        }
        self.kube.apply(MODELDEPLOYMENTS, body)

    def annotate(self, name: str, token: str, value: str) -> None:
        patch = {"metadata": {"annotations": {f"modeldeploy.dev/{token}": value}}}
        self.kube.merge(MODELDEPLOYMENTS, name, patch)

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.kube.get(MODELDEPLOYMENTS, name).get("status", {})
        return found

    def wait(self, name: str, *, seconds: float = 120, **wanted: Any) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            status = self.status(name)
            version = status.get("model", {}).get("version")
            is_there = all({**status, "version": version}.get(key) == value for key, value in wanted.items())
            return status if is_there else None

        return wait_until(there, f"{name} is at {wanted}", seconds=seconds) or {}

    def load(self, name: str, address: str = "") -> Load:
        rows = some_rows(50)
        expected = {version: own_predictions(version, rows) for version in VERSIONS}
        address = address or self.kube.get(SERVICES, name)["spec"]["clusterIP"]
        return Load(f"http://{address}/predict", rows, expected, rate=RATE)

    def gateway(self, name: str, **annotations: str) -> str:
        """Make a Gateway of the sandbox's class, and return its address."""
        spec = {
            "gatewayClassName": "sandbox",
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
        }
        metadata = {"name": name, "annotations": annotations}
        body = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": metadata}
        self.kube.apply(GATEWAYS, {**body, "spec": spec}, "default")

        def addresses() -> Any:
            return self.kube.get(GATEWAYS, name).get("status", {}).get("addresses")

        return str(wait_until(addresses, f"the Gateway {name} has an address", seconds=30)[0]["value"])


@pytest.fixture(scope="module")
def arena(packages: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Arena]:
    if request.config.getoption("--cluster"):
        cluster = request.getfixturevalue("cluster")
        if cluster.running is None:
            pytest.skip("kills its operator: needs one that runs on this machine (NODE=sandbox)")
        with Kube.connect(cluster.kubeconfig) as kube:
            yield Arena(kube, packages, cluster.running.operator)
            cluster.running.operator.check()
        return
    # A node that starts what was killed again at once, as often as it is killed.
    options = ("--restart-backoff", "0.1")
    with (
        stand(tmp_path_factory.mktemp("arena"), *options, MODEL_OPERATOR_PRE_STOP_SECONDS="1") as running,
        Kube.connect(running.kubeconfig) as kube,
    ):
        yield Arena(kube, packages, running.operator)
        running.operator.check()


def check(load: Load) -> None:
    assert load.report.failed == []
    assert load.report.differing == []


@pytest.mark.timeout(240)
def test_a_rollout_loses_no_request_though_the_operator_dies_at_each_step(arena: Arena) -> None:
    arena.apply("good", "1", STEPS, replicas=2)
    arena.wait("good", phase="Healthy", version="1")
    seen: set[tuple[str, str]] = set()
    with arena.load("good") as load:
        arena.apply("good", "2", STEPS, replicas=2)

        def is_over() -> bool:
            status = arena.status("good")
            place = (status["phase"], status.get("step", ""))
            if place not in seen and place[0] != "Healthy":
                seen.add(place)
                arena.operator.kill()
            return status["phase"] == "Healthy" and status.get("model", {}).get("version") == "2"

        wait_until(is_over, "version 2 is live", seconds=180)
    check(load)
    assert len(seen) >= 4, seen
    assert set(load.report.answered) == {"1", "2"}
    results = [entry["result"] for entry in arena.status("good")["history"]]
    assert results == ["Promoted", "Promoted"]


@pytest.mark.timeout(240)
def test_abort_revert_and_undo_lose_no_request(arena: Arena) -> None:
    arena.apply("turns", "1", GATE)
    first = arena.wait("turns", phase="Healthy", version="1")["stableRevision"]
    with arena.load("turns") as load:
        arena.apply("turns", "2", GATE)
        canary = arena.wait("turns", phase="Paused")["canaryRevision"]
        arena.annotate("turns", "abort", canary)
        arena.wait("turns", phase="Degraded", abortedRevision=canary)

        arena.annotate("turns", "retry", canary)
        arena.wait("turns", phase="Paused", canaryRevision=canary)
        arena.apply("turns", "1", GATE)  # a revert in the middle
        arena.wait("turns", phase="Healthy", stableRevision=first)

        arena.apply("turns", "2", GATE)
        arena.wait("turns", phase="Paused", canaryRevision=canary)
        arena.annotate("turns", "promote-full", canary)
        arena.wait("turns", phase="Healthy", stableRevision=canary)
        arena.annotate("turns", "undo", first)
        arena.wait("turns", phase="Healthy", stableRevision=first)
    check(load)
    assert set(load.report.answered) == {"1", "2"}
    undone = arena.kube.get(MODELDEPLOYMENTS, "turns")["spec"]["model"]["storageUri"]
    assert undone.endswith("/1"), json.dumps(undone)


@pytest.mark.timeout(240)
def test_a_gateway_splits_requests_by_the_weights_and_loses_none(arena: Arena) -> None:
    address = arena.gateway("public")
    routing = {"gatewayAPI": {"parentRefs": [{"name": "public"}]}, "propagationSeconds": 1}
    more = {"trafficRouting": routing, "scaleDownDelaySeconds": 2}
    steps = [{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}]
    arena.apply("routed", "1", steps, **more)
    arena.wait("routed", phase="Healthy", version="1")
    wait_until(lambda: is_ready(arena, "routed"), "the route is programmed", seconds=30)
    with arena.load("routed", address) as whole:
        arena.apply("routed", "2", steps, **more)
        status = arena.wait("routed", phase="Paused", step="2/3")
        assert status["weights"]["applied"] == 25
        with arena.load("routed", address) as counted:
            wait_until(lambda: counted.report.sent >= 600, "600 requests were counted", seconds=60)
        arena.wait("routed", seconds=30, phase="Paused")
        status = wait_until(lambda: verified(arena, "routed"), "the operator counted the same", seconds=30)
        arena.operator.kill()
        arena.annotate("routed", "promote", f"{status['canaryRevision']}@1")
        arena.wait("routed", phase="Healthy", version="2")
    check(whole)
    check(counted)
    share, total = counted.report.answered["2"], counted.report.answered.total()
    # Four standard deviations of a binomial share: once in 16 000 runs by chance.
    assert abs(share - total * 0.25) <= 4 * (total * 0.25 * 0.75) ** 0.5, f"{share} of {total} reached the canary"


@pytest.mark.timeout(240)
def test_a_gateway_that_builds_a_backend_when_it_gets_weight_loses_no_request(arena: Arena) -> None:
    address = arena.gateway("lazy", **{BUILD_SECONDS: "0.7"})
    routing = {"gatewayAPI": {"parentRefs": [{"name": "lazy"}]}, "propagationSeconds": 1}
    more = {"trafficRouting": routing, "scaleDownDelaySeconds": 2, "abortScaleDownDelaySeconds": 0}
    steps = [{"setWeight": 25}, {"pause": {"duration": "1s"}}, {"setWeight": 100}, {"pause": {}}]
    arena.apply("cold", "1", steps, **more)
    arena.wait("cold", phase="Healthy", version="1")
    wait_until(lambda: serves(address), "the first backend is built", seconds=30)
    with arena.load("cold", address) as load:
        arena.apply("cold", "2", steps, **more)
        status = arena.wait("cold", phase="Paused", step="4/4")
        assert status["weights"]["applied"] == 100
        # Stable has been without requests for longer than a backend takes.
        wait_until(lambda: verified(arena, "cold"), "the requests were counted", seconds=30)
        arena.annotate("cold", "abort", status["canaryRevision"])
        arena.wait("cold", phase="Degraded")
    check(load)
    assert set(load.report.answered) == {"1", "2"}


def serves(address: str) -> bool:
    return httpx.post(f"http://{address}/predict", json={"instances": some_rows(1)}, trust_env=False).is_success


@pytest.mark.timeout(240)
def test_a_canary_is_judged_by_copies_before_it_has_a_request(arena: Arena) -> None:
    address = arena.gateway("copying")
    routing = {"gatewayAPI": {"parentRefs": [{"name": "copying"}]}, "propagationSeconds": 0}
    metrics = [{"name": "shadow-agreement", "min": 0.9}]
    analysis = {"interval": "1s", "warmup": "0s", "metrics": metrics}
    steps = [{"setMirrorRoute": {"percentage": 100}}, {"analysis": {"maxDuration": "2m"}}]
    more = {
        "trafficRouting": routing,
        "analysis": analysis,
        "scaleDownDelaySeconds": 0,
        "abortScaleDownDelaySeconds": 0,
    }
    arena.apply("shadowed", "1", steps, **more)
    arena.wait("shadowed", phase="Healthy", version="1")
    wait_until(lambda: is_ready(arena, "shadowed"), "the route is programmed", seconds=30)
    rows = differing_rows(count=200, differing=40)
    expected = {version: own_predictions(version, rows) for version in VERSIONS}
    with Load(f"http://{address}/predict", rows, expected, rate=RATE / 2) as load:
        arena.apply("shadowed", "2", steps, **more)
        found = arena.wait("shadowed", seconds=60, phase="Degraded")
        assert found["rollback"]["reason"] == "AnalysisFailed"
        assert "shadow-agreement: " in found["rollback"]["message"]
        assert found["analysis"]["metrics"][0]["value"] < 0.9
        assert set(load.report.answered) == {"1"}, "no user was answered by what only copies were sent to"
        # The same model in another revision.
        uri = (arena.models / "quick" / "breast-cancer" / "1").as_uri()
        again = {"model": {"storageUri": uri}, "server": {"logLevel": "warning"}}
        arena.kube.merge(MODELDEPLOYMENTS, "shadowed", {"spec": again})
        wait_until(lambda: results(arena, "shadowed") == ["Promoted", "Aborted", "Promoted"], "it is live", seconds=60)
    check(load)
    assert arena.status("shadowed")["analysis"]["metrics"][0]["value"] == 1


def results(arena: Arena, name: str) -> list[str]:
    return [entry["result"] for entry in arena.status(name)["history"]]


def differing_rows(*, count: int, differing: int) -> list[list[float]]:
    """So many rows, on so many of which the two versions say different things."""
    rows = some_rows(20 * count)
    is_different = [one != other for one, other in zip(*(own_predictions(v, rows) for v in VERSIONS), strict=True)]
    apart = [row for row, is_so in zip(rows, is_different, strict=True) if is_so][:differing]
    alike = [row for row, is_so in zip(rows, is_different, strict=True) if not is_so][: count - differing]
    assert (len(apart), len(alike)) == (differing, count - differing)
    return [*alike, *apart]


@pytest.mark.timeout(240)
def test_a_canary_whose_last_pod_dies_loses_its_weight(arena: Arena) -> None:
    arena.gateway("public")
    routing = {"gatewayAPI": {"parentRefs": [{"name": "public"}]}, "propagationSeconds": 0}
    steps = [{"setWeight": 40}, {"pause": {}}]
    arena.apply("mortal", "1", steps, trafficRouting=routing)
    arena.wait("mortal", phase="Healthy", version="1")
    arena.apply("mortal", "2", steps, trafficRouting=routing)
    canary = arena.wait("mortal", phase="Paused")["canaryRevision"]
    wait_until(lambda: weight(arena, "mortal", canary) == 40, "the route has the weight", seconds=30)
    pods = arena.kube.list(PODS, labels=f"modeldeploy.dev/name=mortal,modeldeploy.dev/revision={canary}")
    arena.kube.delete(PODS, pods[0]["metadata"]["name"])
    wait_until(lambda: weight(arena, "mortal", canary) == 0, "the weight is gone", seconds=30)
    wait_until(lambda: weight(arena, "mortal", canary) == 40, "it is back with the next pod", seconds=60)
    assert arena.status("mortal")["phase"] == "Paused"


def is_ready(arena: Arena, name: str) -> bool:
    conditions = arena.status(name).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def verified(arena: Arena, name: str) -> dict[str, Any] | None:
    status = arena.status(name)
    return status if status.get("weights", {}).get("verified") else None


def weight(arena: Arena, name: str, revision: str) -> int:
    backends = arena.kube.get(ROUTES, name)["spec"]["rules"][-1]["backendRefs"]
    return sum(backend["weight"] for backend in backends if backend["name"] == f"{name}-{revision}")
