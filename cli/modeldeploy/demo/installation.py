"""How the demo gets its operator: by the chart and Helm's engine, or as a process where that engine has no wheel."""

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeldeploy.demo.narrator import DemoFailed, Narrator
from modeldeploy.kube import PODS, Kube
from modeldeploy.stand import Child

NAMESPACE = "modeldeploy"


def has_helm() -> bool:
    """Whether Helm's engine can be imported here."""
    return importlib.util.find_spec("helm_python") is not None


def install(kubeconfig: Path, kube: Kube, narrator: Narrator) -> "Installed":
    """Install the chart, as `helm install` does, and wait until the operator is ready. Raises `DemoFailed`."""
    narrator.command(
        ["helm", "install", "modeldeploy", "helm/modeldeploy", "-n", NAMESPACE, "--create-namespace", "--wait"]
    )
    command = [sys.executable, "-m", "modeldeploy.stand.chart", "install", "--kubeconfig", str(kubeconfig)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    narrator.output(done.stdout + done.stderr)
    if done.returncode:
        raise DemoFailed("the chart was not installed")
    installed = Installed(kube)
    installed.check()
    return installed


@dataclass(frozen=True, slots=True)
class Installed:
    """An operator that runs as a pod."""

    kube: Kube

    def check(self) -> None:
        """Raise `DemoFailed` unless the operator runs, and has run all the time."""
        for pod in self.kube.list(PODS, NAMESPACE, labels="app.kubernetes.io/component=operator"):
            if _restarts(pod) == 0 and pod["status"].get("phase") == "Running":
                return
        raise DemoFailed("the operator ended by itself; see: kubectl -n modeldeploy logs deploy/modeldeploy --previous")


@dataclass(frozen=True, slots=True)
class Started:
    """An operator that runs as a process of this machine."""

    child: Child

    def check(self) -> None:
        """Raise `DemoFailed` unless the operator runs."""
        if not self.child.is_alive():
            raise DemoFailed(f"the operator ended by itself:\n{self.child.tail()}")


def _restarts(pod: dict[str, Any]) -> int:
    return sum(int(one.get("restartCount", 0)) for one in pod["status"].get("containerStatuses", ()))
