"""From nothing to a first prediction: what a person waits for, and what the operator weighs."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx
from report import Row, Table

from modeldeploy.demo.models import own_predictions, some_rows
from modeldeploy.kube import MODELDEPLOYMENTS, SERVICES, Kube, KubeError
from modeldeploy.stand import Stand, checkout, stand, start_sandbox, wait_until

_TIMES = 3
_MANY = 10


def measure(folder: Path) -> Table:
    """Time three starts of the sandbox and three first predictions; weigh the operator with ten models."""
    ups = [_sandbox_up(folder / f"up-{turn}") for turn in range(_TIMES)]
    models = folder / "models"
    train = checkout() / "examples" / "01-minimal" / "train.py"
    subprocess.run([sys.executable, str(train), str(models)], check=True, capture_output=True)
    package = models / "breast-cancer" / "1"
    with stand(folder / "stand") as running, Kube.connect(running.kubeconfig) as kube:
        firsts = [_first_prediction(kube, package, f"first-{turn}") for turn in range(_TIMES)]
        rss = _weight_with_many(kube, running, package)
    return Table(
        name="first_prediction",
        title="From nothing to a first prediction",
        rows=(
            Row(what=f"sandbox up (median of {_TIMES})", value=_round(ups), unit="s", goal=2),
            Row(
                what=f"apply to first prediction, imports included (median of {_TIMES})",
                value=_round(firsts),
                unit="s",
                goal=10,
            ),
            Row(what=f"operator RSS with {_MANY} ModelDeployments", value=rss, unit="MB", goal=120),
        ),
    )


def _round(seconds: list[float]) -> float:
    return round(statistics.median(seconds), 2)


def _sandbox_up(folder: Path) -> float:
    began = time.monotonic()
    with start_sandbox(folder):
        return time.monotonic() - began


def _apply(kube: Kube, package: Path, name: str) -> None:
    manifest = {
        "apiVersion": "modeldeploy.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": {"model": {"storageUri": package.as_uri(), "trusted": True}},
    }
    kube.apply(MODELDEPLOYMENTS, manifest)


def _first_prediction(kube: Kube, package: Path, name: str) -> float:
    rows = some_rows(package, 1)
    began = time.monotonic()
    _apply(kube, package, name)
    answer = wait_until(lambda: _try(kube, name, rows), f"{name} answers", seconds=60)
    took = time.monotonic() - began
    assert answer == own_predictions(package, rows), answer
    kube.delete(MODELDEPLOYMENTS, name)
    return took


def _try(kube: Kube, name: str, rows: list[list[float]]) -> list[object]:
    try:
        spec = kube.get(SERVICES, name)["spec"]
        url = f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}/predict"
        response = httpx.post(url, json={"instances": rows}, trust_env=False)
    except (KubeError, httpx.TransportError):
        return []
    return list(response.json()["predictions"]) if response.is_success else []


def _weight_with_many(kube: Kube, running: Stand, package: Path) -> float:
    names = [f"many-{number}" for number in range(_MANY)]
    for name in names:
        _apply(kube, package, name)
    for name in names:
        wait_until(lambda name=name: _is_ready(kube, name), f"{name} is Ready", seconds=180)
    return _rss(running.operator.pid)


def _is_ready(kube: Kube, name: str) -> bool:
    conditions = kube.get(MODELDEPLOYMENTS, name).get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _rss(pid: int) -> float:
    """Resident memory in MB, of the process and its children."""
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    return round(kilobytes * 1024 / 1e6, 1)
