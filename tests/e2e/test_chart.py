"""The chart in a sandbox of its own, by the real Helm engine, from install to uninstall.

That an operator with the chart's rights, and nothing more, does its work is what all other tests here show.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from modeldeploy.kube import PODS, Kube, Resource
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
