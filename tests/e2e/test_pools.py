"""A pool from its list to predictions, and a list that changes under it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from waiting import wait_until

from modeldeploy.kube import MODELPOOLS, PODS, Resource

SECRETS = Resource("", "v1", "secrets")
BUDGETS = Resource("policy", "v1", "poddisruptionbudgets")
BODY = {"instances": [[1.0]]}

MODEL = """
def load_model(path): return 1
def predict(model, inputs): return [{number}] * len(inputs)
"""


def entry(home: Path, number: int) -> dict[str, Any]:
    folder = home / f"model-{number}"
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(MODEL.format(number=number))
    return {"name": f"m{number}", "storageUri": folder.as_uri(), "trusted": True}


def apply(space: Any, name: str, *models: dict[str, Any], **spec: Any) -> None:
    body = {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelPool", "metadata": {"name": name}}
    space.kube.apply(MODELPOOLS, {**body, "spec": {"models": [*models], **spec}})


def wait_status(space: Any, name: str, **wanted: object) -> dict[str, Any]:
    def reached() -> dict[str, Any] | None:
        space.cluster.check()
        status: dict[str, Any] = space.kube.get(MODELPOOLS, name).get("status", {})
        return status if wanted.items() <= status.items() else None

    return wait_until(reached, f"{name} has {wanted}", seconds=60) or {}


def answer(space: Any, name: str, model: str) -> httpx.Response:
    return httpx.post(f"{space.url(name)}/v1/models/{model}:predict", json=BODY, timeout=30, trust_env=False)


def test_a_pool_serves_its_list_and_follows_it_without_a_restart(space: Any, tmp_path: Path) -> None:
    if space.cluster.running is None:
        pytest.skip("pods of this cluster do not see the files of this machine")
    apply(space, "small", entry(tmp_path, 1), {"name": "gone", "storageUri": "file:///nowhere"}, processes=1)
    assert wait_status(space, "small", phase="Ready")["models"] == 2
    assert answer(space, "small", "m1").json()["predictions"] == [1]
    assert answer(space, "small", "m2").status_code == 404
    assert answer(space, "small", "gone").json()["reason"] == "ModelUnloadable"
    status = wait_status(space, "small", phase="Degraded", loaded=1, failed=1)
    assert status["failures"] == [{"name": "gone", "reason": "ArtifactNotFound"}]
    assert "gone (ArtifactNotFound)" in status["message"]
    before = pods(space)
    apply(space, "small", entry(tmp_path, 1), entry(tmp_path, 2), processes=1)
    wait_until(lambda: answer(space, "small", "m2").status_code == 200, "the new model answers", seconds=60)
    assert wait_status(space, "small", phase="Ready", failed=0, models=2)["ready"] == "1/1"
    assert pods(space) == before, "no pod was restarted"
    columns = space.kubectl("get", "mpool", "small").stdout
    assert "Ready" in columns
    assert "1/1" in columns


def pods(space: Any) -> list[tuple[str, int]]:
    found = space.kube.list(PODS, labels="modeldeploy.dev/pool=small")
    assert found
    return sorted(
        (one["metadata"]["uid"], sum(state["restartCount"] for state in one["status"].get("containerStatuses", ())))
        for one in found
    )


def test_what_cannot_be_carried_out_is_told(space: Any, tmp_path: Path) -> None:
    apply(space, "tiny", entry(tmp_path, 1), memoryBudget="5Mi")
    status = wait_until(
        lambda: (found := space.kube.get(MODELPOOLS, "tiny").get("status", {})).get("conditions") and found, "a status"
    )
    (condition,) = status["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("SpecValid", "False", "InvalidSpec")
    assert "5Mi is less than 64Mi" in status["message"]
    refused = space.kubectl("apply", "-f", "-", given=REFUSED)
    assert refused.returncode == 1
    assert "storageUri" in refused.stderr


def test_a_pool_asks_for_keys_as_a_deployment_does_and_tells_people_what_it_holds(space: Any, tmp_path: Path) -> None:
    if space.cluster.running is None:
        pytest.skip("pods of this cluster do not see the files of this machine")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"ann": "key of ann"}}
    space.kube.apply(SECRETS, secret)
    auth = {"secretName": "keys", "protect": ["metrics"], "limits": [{"key": "ann", "concurrency": 2}]}
    container = {"name": "server", "env": [{"name": "MODEL_SERVER_EXPLANATIONS", "value": "true"}]}
    server = {"auth": auth, "podTemplate": {"spec": {"containers": [container]}}}
    apply(space, "locked", entry(tmp_path, 1), entry(tmp_path, 2), processes=1, server=server)
    wait_status(space, "locked", phase="Ready")
    assert answer(space, "locked", "m1").status_code == 401
    key = {"x-api-key": "key of ann"}
    url = f"{space.url('locked')}/v1/models/m1"
    given = httpx.post(f"{url}:predict", json=BODY, headers=key, timeout=30, trust_env=False)
    assert given.json()["predictions"] == [1]
    explained = httpx.post(f"{url}:explain", json=BODY, headers=key, timeout=30, trust_env=False)
    assert "cannot be explained" in explained.json()["error"]
    # The operator reads protected state with its token.
    wait_status(space, "locked", loaded=1)


def test_what_stands_beside_a_pool_comes_and_goes_and_is_not_needed(space: Any, tmp_path: Path) -> None:
    if space.cluster.running is None:
        pytest.skip("pods of this cluster do not see the files of this machine")
    apply(space, "two", entry(tmp_path, 1), processes=1, replicas=2, monitoring={"serviceMonitor": True})
    status = wait_status(space, "two", phase="Ready", ready="2/2")
    valid = next(one for one in status["conditions"] if one["type"] == "SpecValid")
    assert (valid["status"], valid["reason"]) == ("False", "ApplyFailed")
    assert "ServiceMonitor two cannot be written" in status["message"], "this cluster has no Prometheus operator"
    assert answer(space, "two", "m1").status_code == 200
    budgets = "modeldeploy.dev/pool=two"
    assert space.kube.list(BUDGETS, labels=budgets)
    apply(space, "two", entry(tmp_path, 1), processes=1, replicas=1)
    wait_until(lambda: not space.kube.list(BUDGETS, labels=budgets), "the budget is gone", seconds=30)
    wait_until(lambda: space.kube.get(MODELPOOLS, "two")["status"]["conditions"][0]["status"] == "True", "all is valid")


def test_a_pool_whose_pods_do_not_start_says_why(space: Any, tmp_path: Path) -> None:
    if space.cluster.running is None:
        pytest.skip("pods of this cluster do not see the files of this machine")
    space.kube.apply(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "empty"}})
    apply(space, "closed", entry(tmp_path, 1), server={"auth": {"secretName": "empty"}})

    def message() -> str:
        return str((space.kube.get(MODELPOOLS, "closed").get("status") or {}).get("message", ""))

    wait_until(lambda: "holds no API key" in message(), "the reason is told", seconds=60)
    assert message().startswith("0 of 1 pods are ready: SettingsInvalid: ")


def test_the_command_line_shows_a_pool(space: Any, tmp_path: Path) -> None:
    if space.cluster.running is None:
        pytest.skip("pods of this cluster do not see the files of this machine")
    gone = {"name": "gone", "storageUri": "file:///nowhere"}
    apply(space, "shown", entry(tmp_path, 1), entry(tmp_path, 2), gone, processes=1, replicas=2)
    wait_status(space, "shown", phase="Ready", ready="2/2")
    assert answer(space, "shown", "m1").status_code == 200
    done = modeldeploy(space, "pool", "shown")
    assert done.returncode == 0, done.stderr
    line, head, *pods_shown = done.stdout.splitlines()
    assert line.startswith("shown: Ready  3 models, ")
    assert head.split()[:4] == ["POD", "LOADED", "FAILED", "ASIDE"]
    assert len(pods_shown) == 2
    assert " of 1,024 MiB (" in pods_shown[0]
    models = modeldeploy(space, "pool", "shown", "--models").stdout
    assert "1 of 2 pods" in next(one for one in models.splitlines() if one.startswith("m1 "))
    assert answer(space, "shown", "gone").status_code == 503
    wait_status(space, "shown", phase="Degraded")
    done = modeldeploy(space, "pool", "shown")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "failed: gone: ArtifactNotFound")
    assert "shown" in modeldeploy(space, "pool").stdout


def modeldeploy(space: Any, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modeldeploy", "--kubeconfig", str(space.kubeconfig), *words]
    environ = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environ)


REFUSED = """
apiVersion: modeldeploy.dev/v1alpha1
kind: ModelPool
metadata: {name: refused}
spec:
  models: [{name: a, storageUri: "http://plain/model"}]
"""
