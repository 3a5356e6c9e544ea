"""From the death of a canary's last pod to weight 0 in the route. Run by `make bench-operator`.

A canary of one pod has 40 % of the traffic; its process is killed with SIGKILL, again and again, and the
HTTPRoute is read until its weight is 0. Models, pods and gateway are real; only the machine is small.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from report import Row, Table

from modeldeploy.kube import MODELDEPLOYMENTS, PODS, Kube, Resource
from modeldeploy.stand import checkout, stand, wait_until

GATEWAYS = Resource("gateway.networking.k8s.io", "v1", "gateways")
ROUTES = Resource("gateway.networking.k8s.io", "v1", "httproutes")
NAME = "mortal"
DEATHS = 12
LONGEST = 30


def measure() -> Table:
    with tempfile.TemporaryDirectory(prefix="modeldeploy-bench-") as name:
        folder = Path(name)
        train = checkout() / "examples" / "01-minimal" / "train.py"
        subprocess.run([sys.executable, str(train), str(folder / "models")], check=True, capture_output=True)
        with stand(folder / "stand") as running, Kube.connect(running.kubeconfig) as kube:
            canary = start_canary(kube, folder / "models" / "breast-cancer")
            times = [die_once(kube, canary) for _ in range(DEATHS)]
    p99 = max(times)
    rows = (
        Row(
            what=f"death of the last pod to weight 0, p50 of {DEATHS}",
            value=round(statistics.median(times), 2),
            unit="s",
        ),
        Row(
            what=f"death of the last pod to weight 0, p99 (most_severe of {DEATHS})",
            value=round(p99, 2),
            unit="s",
            goal=1,
        ),
    )
    return Table(name="dead_canary", title="A canary that dies", rows=rows)


def start_canary(kube: Kube, models: Path) -> str:
    """Put a canary at 40 % and return its revision."""
    listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "public"},
        "spec": {"gatewayClassName": "sandbox", "listeners": [listener]},
    }
    kube.apply(GATEWAYS, gateway)
    apply(kube, models / "1")
    wait(kube, lambda status: status.get("phase") == "Healthy")
    apply(kube, models / "2")
    status = wait(kube, lambda status: status.get("phase") == "Paused")
    return str(status["canaryRevision"])


def apply(kube: Kube, model: Path) -> None:
    routing = {"gatewayAPI": {"parentRefs": [{"name": "public"}]}, "propagationSeconds": 0}
    body = {
        "apiVersion": "modeldeploy.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": NAME},
        "spec": {
            "model": {"storageUri": model.as_uri(), "trusted": True},
            "strategy": {"canary": {"steps": [{"setWeight": 40}, {"pause": {}}], "trafficRouting": routing}},
        },
    }
    kube.apply(MODELDEPLOYMENTS, body)


def wait(kube: Kube, holds: Callable[[Any], bool]) -> Any:
    def look() -> Any:
        status = kube.get(MODELDEPLOYMENTS, NAME).get("status", {})
        return status if holds(status) else None

    return wait_until(look, f"{NAME} is there", seconds=120)


def die_once(kube: Kube, canary: str) -> float:
    """Kill the canary's process; return the seconds until the route has no weight for it."""
    wait_until(lambda: weight(kube, canary) == 40, "the weight is back", seconds=120)
    # The pod of the last death may still be on its way out, and its process must not be taken for the new one.
    wait_until(lambda: len(pods_of(kube, canary)) == 1, "the canary has one pod", seconds=120)
    time.sleep(0.5)
    process = process_of(canary)
    started = time.perf_counter()
    os.kill(process, signal.SIGKILL)
    while weight(kube, canary):
        if time.perf_counter() - started > LONGEST:
            raise TimeoutError(f"the route still has the weight {LONGEST} s after the death")
        time.sleep(0.002)
    took = time.perf_counter() - started
    # A pod of its own for the next death: a third crash of the same pod would end the rollout.
    for pod in pods_of(kube, canary):
        kube.delete(PODS, pod["metadata"]["name"])
    return took


def pods_of(kube: Kube, canary: str) -> list[dict[str, Any]]:
    return kube.list(PODS, labels=f"modeldeploy.dev/revision={canary}")


def process_of(revision: str) -> int:
    """Return the process that serves a revision; the sandbox's pods are processes of this machine."""
    wanted = f"MODEL_SERVER_REVISION={revision}".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in environment.read_bytes().split(b"\0"):
                return int(environment.parent.name)
        except (OSError, ValueError):
            continue
    raise RuntimeError(f"no process serves {revision}")


def weight(kube: Kube, canary: str) -> int:
    backends = kube.get(ROUTES, NAME)["spec"]["rules"][-1]["backendRefs"]
    return sum(backend["weight"] for backend in backends if backend["name"] == f"{NAME}-{canary}")
