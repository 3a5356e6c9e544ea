"""The chart in a sandbox of its own, by the real Helm engine: the operator is a pod with its own rights only."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from modeldeploy.demo.models import own_predictions, some_rows
from modeldeploy.kube import MODELDEPLOYMENTS, PODS, SERVICES, Kube, Resource
from modeldeploy.stand import start_sandbox, wait_until

pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this machine")

RELEASE = "modeldeploy"
CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", namespaced=False)


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("chart")
    with start_sandbox(folder):
        yield folder / "kubeconfig"


def helm(action: str, kubeconfig: Path, values: dict[str, Any] | None = None) -> str:
    command = [sys.executable, "-m", "modeldeploy.stand.chart", action, "--kubeconfig", str(kubeconfig)]
    command += ["--values", json.dumps(values or {})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def operators(kube: Kube) -> list[dict[str, Any]]:
    return kube.list(PODS, RELEASE, labels="app.kubernetes.io/component=operator")


@pytest.mark.timeout(300)
def test_the_chart_is_installed_works_and_leaves(kubeconfig: Path, packages: Path) -> None:
    with Kube.connect(kubeconfig) as kube:
        assert "STATUS: deployed" in helm("install", kubeconfig, {"replicas": 1})
        assert len(operators(kube)) == 1
        serves(kube, packages)

        assert "REVISION: 2" in helm("upgrade", kubeconfig, {"replicas": 2})
        assert len(operators(kube)) == 2
        assert "REVISION: 3" in helm("rollback", kubeconfig)
        wait_until(lambda: len(operators(kube)) == 1, "the second operator has left", seconds=60)

        helm("uninstall", kubeconfig)
        wait_until(lambda: not operators(kube), "the operator has left", seconds=60)
        names = [one["metadata"]["name"] for one in kube.list(CLUSTER_ROLES)]
        assert not [name for name in names if name.startswith(RELEASE)]


def serves(kube: Kube, folder: Path) -> None:
    """A model goes live by an operator that has the chart's rights and nothing more."""
    package = folder / "quick" / "wine" / "1"
    manifest = {
        "apiVersion": "modeldeploy.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "wine"},
        "spec": {"model": {"storageUri": package.as_uri()}},
    }
    kube.apply(MODELDEPLOYMENTS, manifest)
    wait_until(lambda: is_ready(kube), "wine is Ready", seconds=90)
    spec = kube.get(SERVICES, "wine")["spec"]
    rows = some_rows(package, 3)
    url = f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}/predict"
    answer = httpx.post(url, json={"instances": rows}, trust_env=False).json()
    assert answer["predictions"] == own_predictions(folder / "wine" / "1", rows)
    kube.delete(MODELDEPLOYMENTS, "wine")
    wait_until(lambda: not kube.list(PODS, labels="modeldeploy.dev/name=wine"), "its pods have left", seconds=60)


def is_ready(kube: Kube) -> bool:
    conditions = kube.get(MODELDEPLOYMENTS, "wine").get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
