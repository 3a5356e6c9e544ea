"""The chart in a sandbox of its own, by the real Helm engine, from install to uninstall.

That an operator with the chart's rights, and nothing more, does its work is what all other tests here show.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from waiting import wait_until

from modeldeploy.kube import MODELDEPLOYMENTS, PODS, SERVICES, Kube, Resource
from modeldeploy.stand import start_sandbox

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
def test_the_chart_is_installed_changed_and_leaves(kubeconfig: Path) -> None:
    with Kube.connect(kubeconfig) as kube:
        assert "STATUS: deployed" in helm("install", kubeconfig, {"replicas": 1})
        assert len(operators(kube)) == 1

        assert "REVISION: 2" in helm("upgrade", kubeconfig, {"replicas": 2})
        assert len(operators(kube)) == 2
        assert "REVISION: 3" in helm("rollback", kubeconfig)
        wait_until(lambda: len(operators(kube)) == 1, "the second operator has left", seconds=60)

        helm("uninstall", kubeconfig)
        wait_until(lambda: not operators(kube), "the operator has left", seconds=60)
        names = [one["metadata"]["name"] for one in kube.list(CLUSTER_ROLES)]
        assert not [name for name in names if name.startswith(RELEASE)]


@pytest.mark.timeout(300)
def test_the_dashboard_of_the_chart_reads_by_itself_and_acts_as_who_asks(kubeconfig: Path) -> None:
    token = yaml.safe_load(kubeconfig.read_text())["users"][0]["user"]["token"]
    with Kube.connect(kubeconfig) as kube, httpx.Client(trust_env=False) as client:
        helm("install", kubeconfig, {"replicas": 1, "dashboard": {"enabled": True}})
        spec = {"model": {"storageUri": "file:///nowhere/1"}}
        manifest = {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "seen"}}
        kube.apply(MODELDEPLOYMENTS, {**manifest, "spec": spec})
        address = kube.get(SERVICES, "modeldeploy-dashboard", RELEASE)["spec"]["clusterIP"]
        page = f"http://{address}/models/default/seen"
        wait_until(lambda: "Degraded" in client.get(page).text, "the dashboard follows the model", seconds=90)
        assert "Read-only" in client.get(page).text
        pause = f"{page}/actions/pause"
        assert client.post(pause, json={}).status_code == 401
        assert client.post(pause, json={}, headers={"authorization": f"Bearer {token}"}).status_code == 200
        assert kube.get(MODELDEPLOYMENTS, "seen")["spec"]["paused"] is True
        kube.delete(MODELDEPLOYMENTS, "seen")
        helm("uninstall", kubeconfig)
