"""Rollouts under constant load, with the operator killed at each step: no request is lost.

These tests kill their operator, so they stand on a sandbox of their own.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from modeldeploy.demo.load import Load
from modeldeploy.demo.models import own_predictions, some_rows
from modeldeploy.kube import MODELDEPLOYMENTS, SERVICES, Kube
from modeldeploy.stand import Child, install_crd, start_operator, start_sandbox, wait_until

RATE = 200
STEPS = [{"setWeight": 25}, {"pause": {"duration": "1s"}}, {"setWeight": 50}, {"pause": {"duration": "1s"}}]
GATE = [{"setWeight": 50}, {"pause": {}}]


@dataclass
class Arena:
    """A sandbox, and an operator that may die."""

    folder: Path
    kubeconfig: Path
    kube: Kube
    models: Path
    operator: Child
    kills: int = 0
    killed_at: set[tuple[str, str]] = field(default_factory=set)

    def kill_operator(self) -> None:
        """End it as a crash would, and start it again as its container would be."""
        self.operator.kill()
        self.kills += 1
        self.operator = operate(self.folder, self.kubeconfig)

    def apply(self, name: str, version: str, steps: list[dict[str, Any]], replicas: int = 2) -> None:
        canary = {"steps": steps, "maxSurge": 1}
        body = {
            "apiVersion": "modeldeploy.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "model": {"storageUri": (self.models / "breast-cancer" / version).as_uri(), "trusted": True},
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

    def load(self, name: str) -> Load:
        rows = some_rows(self.models / "breast-cancer" / "1", 50)
        versions = ("1", "2")
        expected = {version: own_predictions(self.models / "breast-cancer" / version, rows) for version in versions}
        spec = self.kube.get(SERVICES, name)["spec"]
        return Load(f"http://{spec['clusterIP']}/predict", rows, expected, rate=RATE)


def operate(folder: Path, kubeconfig: Path) -> Child:
    """The lease is held under one name, so a restarted operator leads at once."""
    settings = {"IDENTITY": "operator-0", "PRE_STOP_SECONDS": "1"}
    return start_operator(folder, kubeconfig, **{f"MODEL_OPERATOR_{name}": value for name, value in settings.items()})


@pytest.fixture(scope="module")
def arena(cluster: Any, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Arena]:
    if request.config.getoption("--cluster"):
        pytest.skip("kills its operator: needs a sandbox of its own")
    folder = tmp_path_factory.mktemp("arena")
    with start_sandbox(folder):
        kubeconfig = folder / "kubeconfig"
        install_crd(kubeconfig)
        with Kube.connect(kubeconfig) as kube:
            arena = Arena(folder, kubeconfig, kube, cluster.models, operate(folder, kubeconfig))
            try:
                yield arena
            finally:
                arena.operator.stop()


def check(load: Load) -> None:
    assert load.report.failed == []
    assert load.report.differing == []


@pytest.mark.timeout(240)
def test_a_rollout_loses_no_request_though_the_operator_dies_at_each_step(arena: Arena) -> None:
    arena.apply("good", "1", STEPS)
    arena.wait("good", phase="Healthy", version="1")
    seen: set[tuple[str, str]] = set()
    with arena.load("good") as load:
        arena.apply("good", "2", STEPS)

        def is_over() -> bool:
            status = arena.status("good")
            place = (status["phase"], status.get("step", ""))
            if place not in seen and place[0] != "Healthy":
                seen.add(place)
                arena.kill_operator()
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
