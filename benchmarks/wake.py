"""How long the first request to a model that sleeps takes, next to the start of the same pod without us.

`make bench-wake`. The bare pod is that of the model in a Deployment of its own, which is scaled from zero to one while
a client asks its Service until it answers. A round has both, one after the other, so that the ratio is of pairs under
the same load; each takes half a minute, most of it until the model sleeps again and all pods are gone.
"""

import copy
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from report import Row, Table, keep, publish

from modeldeploy.demo.models import some_rows
from modeldeploy.kube import DEPLOYMENTS, MODELDEPLOYMENTS, PODS, SERVICES, Kube
from modeldeploy.stand import checkout, installed, start_sandbox, wait_until

ROUNDS = 9
#: Seconds between two questions to a pod that starts: more often, they would slow the start down.
_PAUSE = 0.1
#: Seconds for a start, and for a model until it sleeps and its pods are gone; a run that takes longer fails.
_LONGEST_START, _LONGEST_REST = 60.0, 60.0
#: Pods end soon after they are asked to: their requests are over.
_SETTINGS = {"MODEL_OPERATOR_PRE_STOP_SECONDS": "1"}
_GOAL = 1.2


def measure(folder: Path) -> Table:
    """Wake a model and start its bare pod in turn."""
    models = folder / "models"
    subprocess.run(
        [sys.executable, str(checkout() / "examples" / "01-minimal" / "train.py"), str(models)],
        check=True,
        capture_output=True,
    )
    package = models / "breast-cancer" / "1"
    body = {"instances": some_rows(package, 1)}
    with (
        start_sandbox(folder / "stand"),
        installed(
            folder / "stand",
            folder / "stand" / "kubeconfig",
            settings=_SETTINGS,
            values={"activator": {"enabled": True}},
        ),
        Kube.connect(folder / "stand" / "kubeconfig") as kube,
        httpx.Client(trust_env=False, timeout=_LONGEST_START) as client,
    ):
        _apply(kube, package)
        model, bare = _url(kube, "fraud"), _copy(kube)

        def wake() -> None:
            client.post(model, json=body).raise_for_status()

        def start() -> None:
            _scale(kube, 1)
            deadline = time.monotonic() + _LONGEST_START
            while not _answers(client, bare, body):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the bare pod has not answered within {_LONGEST_START:g} s")
                time.sleep(_PAUSE)

        woken, started = [], []
        for number in range(1, ROUNDS + 1):
            _rest(kube)
            woken.append(_timed(wake))
            _rest(kube)
            started.append(_timed(start))
            _scale(kube, 0)
            print(
                f"{number}/{ROUNDS}: {woken[-1]:.2f} s woken, {started[-1]:.2f} s started", file=sys.stderr, flush=True
            )
    return _table(woken, started)


def _table(woken: list[float], started: list[float]) -> Table:
    ratio = round(statistics.median(one / other for one, other in zip(woken, started, strict=True)), 2)
    return Table(
        name="wake",
        title="Waking a model",
        rows=(
            Row(what=f"first answer of a model that sleeps (median of {ROUNDS})", value=_median(woken), unit="s"),
            Row(what="the fastest of them", value=round(min(woken), 2), unit="s"),
            Row(
                what=f"first answer of its bare pod, scaled from 0 to 1 (median of {ROUNDS})",
                value=_median(started),
                unit="s",
            ),
            Row(what="the fastest of them", value=round(min(started), 2), unit="s"),
            Row(
                what="load of the machine, which others used too (5 minutes)",
                value=round(os.getloadavg()[1], 1),
                unit="",
            ),
            Row(what="the model next to the bare pod of the same round (median)", value=ratio, unit="x", goal=_GOAL),
        ),
    )


def _median(seconds: list[float]) -> float:
    return round(statistics.median(seconds), 2)


def _timed(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _apply(kube: Kube, package: Path) -> None:
    manifest = {
        "apiVersion": "modeldeploy.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "fraud"},
        "spec": {
            "model": {"storageUri": package.as_uri(), "trusted": True},
            "autoscaling": {"minReplicas": 0, "maxReplicas": 1, "idleAfter": "5s"},
        },
    }
    kube.apply(MODELDEPLOYMENTS, manifest)
    wait_until(lambda: _phase(kube) == "Healthy", "the model is healthy", seconds=60)


def _copy(kube: Kube) -> str:
    """Make a Deployment of the model's pod and a Service in front of it, both without the operator."""
    (own,) = [one for one in kube.list(DEPLOYMENTS, "default") if one["metadata"]["name"].startswith("fraud-")]
    labels = {"app": "bare"}
    template: dict[str, Any] = copy.deepcopy(own["spec"]["template"])
    template["metadata"]["labels"] = labels
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    meta = {"name": "bare"}
    kube.apply(DEPLOYMENTS, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}, "default")
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    service = {"selector": labels, "ports": ports}
    kube.apply(SERVICES, {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service}, "default")
    return _url(kube, "bare")


def _scale(kube: Kube, replicas: int) -> None:
    kube.merge(DEPLOYMENTS, "bare", {"spec": {"replicas": replicas}}, "default")


def _url(kube: Kube, name: str) -> str:
    return f"http://{kube.get(SERVICES, name, 'default')['spec']['clusterIP']}/predict"


def _phase(kube: Kube) -> str:
    return str(kube.get(MODELDEPLOYMENTS, "fraud", "default").get("status", {}).get("phase", ""))


def _rest(kube: Kube) -> None:
    """Wait until the model sleeps and no pod is left, of either."""
    wait_until(
        lambda: _phase(kube) == "Sleeping" and not kube.list(PODS, "default"),
        "all pods are gone",
        seconds=_LONGEST_REST,
    )
    time.sleep(1)  # what they leave behind is tidied up


def _answers(client: httpx.Client, url: str, body: Any) -> bool:
    try:
        return client.post(url, json=body).is_success
    except httpx.TransportError:
        return False


def main() -> int:
    """Measure, keep the figures, and print all tables; the exit status is 1 if a goal was missed."""
    with tempfile.TemporaryDirectory(prefix="modeldeploy-bench-") as folder:
        table = measure(Path(folder))
    keep(table)
    publish()
    for row in table.rows:
        print(f"{row.what}: {row.value:g} {row.unit}")
    return 1 if any(row.goal is not None and row.value > row.goal for row in table.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
