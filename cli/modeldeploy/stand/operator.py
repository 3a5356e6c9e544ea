"""The operator of a stand: a pod that the chart made, or a process where Helm's engine has no wheel.

Either way it is one thing to those who stand on it: it can be looked at, and killed as a crash would.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import httpx
import yaml

from modeldeploy.kube import CRDS, PODS, Kube, KubeError
from modeldeploy.stand.ports import free_port
from modeldeploy.stand.process import Child, StartError, environment, find_process, wait_until
from modeldeploy.stand.source import checkout

NAMESPACE = "modeldeploy"
#: On one machine everything that a model refers to is on loopback, and the image `python` is the machine's own.
_LOOPBACK, _IMAGES = {"MODEL_OPERATOR_EGRESS_NETWORKS": "127.0.0.0/8"}, ["python:*"]
INSTALL = ["helm", "install", "modeldeploy", "helm/modeldeploy", "-n", NAMESPACE, "--create-namespace", "--wait"]


class Operator(Protocol):
    """A running operator; `output` is what its installation said."""

    output: str

    @property
    def pid(self) -> int:
        """Process id."""

    def check(self) -> None:
        """Raise `StartError` unless it runs, and never ended but by `kill`."""

    def kill(self) -> None:
        """End it as a crash would. It is started again."""

    def tail(self, lines: int = 40) -> str:
        """The last lines of its log."""


def has_helm() -> bool:
    """Whether Helm's engine can be imported here."""
    return importlib.util.find_spec("helm_python") is not None


@contextmanager
def installed(
    folder: Path,
    kubeconfig: Path,
    *,
    replicas: int = 1,
    settings: Mapping[str, str] | None = None,
    values: Mapping[str, Any] | None = None,
) -> Iterator[Operator]:
    """An operator on the sandbox whose files lie under `folder`, ready on entry.

    `settings` are more environment variables for it, `values` more values of the chart, which count where Helm's engine
    is there. Raises `StartError` with what was said.
    """
    if has_helm():
        yield _install(folder, kubeconfig, {"replicas": replicas, **(values or {})}, settings or {})
        return
    install_crd(kubeconfig)
    operator = ProcessOperator(folder, kubeconfig, settings or {})
    try:
        yield operator
    finally:
        operator.stop()


def _install(folder: Path, kubeconfig: Path, values: Mapping[str, Any], settings: Mapping[str, str]) -> "PodOperator":
    settings = {**_LOOPBACK, **settings}
    environment_entries = [{"name": name, "value": value} for name, value in settings.items()]
    values = {"podPolicyExceptions": {"images": _IMAGES}, **values, "extraEnv": environment_entries}
    done = _helm("install", kubeconfig, "--values", json.dumps(values))
    operator = PodOperator(folder, kubeconfig, done.stdout)
    if done.returncode:
        raise StartError(f"the chart was not installed:\n{done.stdout}{done.stderr}\n{operator.tail()}")
    return operator


def uninstall(kubeconfig: Path) -> None:
    """Remove the chart from a cluster that goes on."""
    if has_helm():
        _helm("uninstall", kubeconfig)


def _helm(action: str, kubeconfig: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "modeldeploy.stand.chart", action, "--kubeconfig", str(kubeconfig), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, env=environment())


class PodOperator:
    """Pods of the sandbox, with the rights of their ServiceAccount."""

    def __init__(self, folder: Path, kubeconfig: Path, output: str) -> None:
        self.output = output
        self._folder = folder
        self._kubeconfig = kubeconfig
        self._kills = 0

    @property
    def pid(self) -> int:
        """Process id of the first pod's container; waits while that is started again."""
        folder = f"/pods/{self._pods()[0]['metadata']['uid']}/"
        return wait_until(lambda: find_process("model_operator", folder), "the operator's process is there", seconds=60)

    def check(self) -> None:
        """Raise `StartError` unless a pod runs for each that is wanted, and none ended but by `kill`."""
        pods = self._pods()
        restarts = sum(int(one["restartCount"]) for pod in pods for one in pod["status"].get("containerStatuses", ()))
        if not pods or restarts > self._kills:
            raise StartError(f"the operator ended by itself {restarts - self._kills} times:\n{self.tail()}")

    def kill(self) -> None:
        """Kill its process; the node starts it again."""
        os.kill(self.pid, signal.SIGKILL)
        self._kills += 1

    def tail(self, lines: int = 40) -> str:
        """The last lines of its log, read from the node's folder: the sandbox may be gone."""
        logs = self._folder.glob("state/*/pods/*/containers/operator/*.log")
        newest = max(logs, key=lambda path: path.stat().st_mtime, default=None)
        text = newest.read_text(errors="replace") if newest else ""
        return "\n".join(line.partition(" ")[2] for line in text.splitlines()[-lines:])

    def _pods(self) -> list[dict[str, Any]]:
        with Kube.connect(self._kubeconfig) as kube:
            return kube.list(PODS, NAMESPACE, labels="app.kubernetes.io/component=operator")


class ProcessOperator:
    """A process of this machine that works as the administrator. `stop` it."""

    def __init__(self, folder: Path, kubeconfig: Path, settings: Mapping[str, str]) -> None:
        self.output = ""
        self._log = folder / "operator.log"
        self._health = free_port()
        self._env = {
            **environment(),
            "KUBECONFIG": str(kubeconfig),
            **_LOOPBACK,
            "MODEL_OPERATOR_POD_POLICY_IMAGES": ",".join(_IMAGES),
            "MODEL_OPERATOR_HOST": "127.0.0.1",
            "MODEL_OPERATOR_IDENTITY": "operator-0",  # one name for the lease: restarted, it leads at once
            "MODEL_OPERATOR_METRICS_PORT": str(free_port()),
            "MODEL_OPERATOR_HEALTH_PORT": str(self._health),
            **settings,
        }
        self._child = self._start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    def check(self) -> None:
        """Raise `StartError` unless it runs."""
        if not self._child.is_alive():
            raise StartError(f"the operator ended by itself:\n{self.tail()}")

    def kill(self) -> None:
        """Kill it, and start it again as its container would be."""
        self._child.kill()
        self._child = self._start()

    def tail(self, lines: int = 40) -> str:
        """The last lines of its log."""
        return self._child.tail(lines)

    def stop(self) -> None:
        """End it."""
        self._child.stop()

    def _start(self) -> Child:
        child = Child("operator", [sys.executable, "-m", "model_operator"], log=self._log, env=self._env)
        try:
            wait_until(lambda: self._is_healthy(child), "the operator is healthy", seconds=60)
        except BaseException:
            child.stop()
            raise
        return child

    def _is_healthy(self, child: Child) -> bool:
        if not child.is_alive():
            raise StartError(f"the operator ended:\n{child.tail()}")
        try:
            return httpx.get(f"http://127.0.0.1:{self._health}/healthz", trust_env=False).is_success
        except httpx.TransportError:
            return False


def install_crd(kubeconfig: Path) -> None:
    """Apply the resource definitions and wait until they are served."""
    definitions = [yaml.safe_load(file.read_text()) for file in sorted((checkout() / "crds").glob("*.yaml"))]
    with Kube.connect(kubeconfig) as kube:
        for crd in definitions:
            kube.apply(CRDS, crd)
        for crd in definitions:
            name = crd["metadata"]["name"]
            wait_until(partial(_is_established, kube, name), f"{name} is established", seconds=15)


def _is_established(kube: Kube, name: str) -> bool:
    try:
        conditions = kube.get(CRDS, name).get("status", {}).get("conditions") or []
    except KubeError:
        return False
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)
