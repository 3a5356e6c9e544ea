"""Starts sandbox, resource definition and operator, and ends them again. See the package's docstring."""

import contextlib
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
import yaml

from modeldeploy.kube import CRDS, Kube, KubeError
from modeldeploy.stand.process import Child, StartError

Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """What runs: `kubeconfig` leads to the sandbox, `folder` holds logs and state."""

    folder: Path
    kubeconfig: Path
    sandbox: Child
    operator: Child


@contextmanager
def stand(folder: Path, **settings: str) -> Iterator[Stand]:
    """Sandbox, resource definition and operator, up on entry and gone on exit; `settings` are the operator's."""
    with start_sandbox(folder, "--gateway") as sandbox:
        kubeconfig = folder / "kubeconfig"
        install_crd(kubeconfig)
        with start_operator(folder, kubeconfig, **settings) as operator:
            yield Stand(folder=folder, kubeconfig=kubeconfig, sandbox=sandbox, operator=operator)


def start_sandbox(folder: Path, *options: str) -> Child:
    """Start the sandbox with its files under `folder`; ready on return, its kubeconfig in the folder.

    `options` are more options of `python -m model_sandbox up`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "model_sandbox", "up"]
    command += ["--state", str(folder / "state"), "--kubeconfig", str(folder / "kubeconfig"), *options]
    child = Child("sandbox", command, log=folder / "sandbox.log", env=_environment())
    return _ready(child, r"^export KUBECONFIG=", seconds=30)


def start_operator(folder: Path, kubeconfig: Path, **settings: str) -> Child:
    """Start the operator on the cluster of `kubeconfig`; healthy on return.

    `settings` are more environment variables for it.
    """
    health = _free_port()
    env = {
        **_environment(),
        "KUBECONFIG": str(kubeconfig),
        "MODEL_OPERATOR_HOST": "127.0.0.1",
        "MODEL_OPERATOR_METRICS_PORT": str(_free_port()),
        "MODEL_OPERATOR_HEALTH_PORT": str(health),
        **settings,
    }
    child = Child("operator", [sys.executable, "-m", "model_operator"], log=folder / "operator.log", env=env)
    try:
        wait_until(lambda: _is_healthy(child, health), "the operator is healthy", seconds=60)
    except BaseException:
        child.stop()
        raise
    return child


def install_crd(kubeconfig: Path) -> None:
    """Apply the resource definition and wait until it is served."""
    crd = yaml.safe_load((checkout() / "crds" / "modeldeployments.yaml").read_text())
    with Kube.connect(kubeconfig) as kube:
        kube.apply(CRDS, crd)
        wait_until(lambda: _is_established(kube, crd["metadata"]["name"]), "the CRD is established", seconds=15)


def wait_until(look: Callable[[], Seen], what: str, *, seconds: float) -> Seen:
    """Look again and again until something true is seen, and return it. Raises `TimeoutError`."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain until {what}")
        time.sleep(0.05)


def checkout() -> Path:
    """Folder of the source tree that this package was installed from in editable mode."""
    root = Path(__file__).resolve().parents[3]
    if not (root / "crds").is_dir():
        raise StartError(f"{root} is no checkout of modeldeploy: run this from a clone, after: make setup")
    return root


def _is_healthy(child: Child, port: int) -> bool:
    if not child.is_alive():
        raise StartError(f"{child.name} ended:\n{child.tail()}")
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).is_success
    except httpx.TransportError:
        return False


def _free_port() -> int:
    """A port that nobody listens on, below those that the system gives to clients: no client takes it meanwhile."""
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _ready(child: Child, pattern: str, *, seconds: float) -> Child:
    try:
        child.wait_for(pattern, seconds=seconds)
    except BaseException:
        child.stop()
        raise
    return child


def _is_established(kube: Kube, name: str) -> bool:
    try:
        conditions = kube.get(CRDS, name).get("status", {}).get("conditions", [])
    except KubeError:
        return False
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def _environment() -> Mapping[str, str]:
    """This environment, with the virtual environment's programs first and no cluster named."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    env = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}
    env.pop("KUBECONFIG", None)
    return env
