"""`modeldeploy labels`: labels of days ago count for the revision that predicted, and count once."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from model_packages import REQUEST
from waiting import wait_until

from modeldeploy.kube import MODELDEPLOYMENTS, PODS

GATE = {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}}
REVISION = "modeldeploy.dev/revision"
#: Two versions and three Jobs, each of which starts a server's Python.
pytestmark = pytest.mark.timeout(300)


def modeldeploy(space: Any, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modeldeploy", "--kubeconfig", str(space.kubeconfig), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=180)


def addresses(space: Any, name: str) -> dict[str, str]:
    """The address of each revision's one pod."""
    found = space.kube.list(PODS, space.namespace, labels=f"modeldeploy.dev/name={name}")
    return {
        one["metadata"]["labels"][REVISION]: f"http://{one['status']['podIP']}:{port['containerPort']}"
        for one in found
        for port in one["spec"]["containers"][0]["ports"]
        if port["name"] == "http"
    }


def predict(address: str, identifier: str) -> int:
    row = json.loads(REQUEST.read_text())["instances"][0]
    headers = {"content-type": "application/json", "x-request-id": identifier}
    request = urllib.request.Request(f"{address}/predict", json.dumps({"instances": [row]}).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return int(json.loads(answer.read())["predictions"][0])


def counted(address: str) -> tuple[float, float]:
    """Labels that were right and wrong, as the server counts them."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    mine = [line for line in lines if line.startswith("modeldeploy_feedback_total")]
    found = {outcome: sum(float(line.split()[-1]) for line in mine if outcome in line) for outcome in ("ect", "wrong")}
    return found["ect"], found["wrong"]


def test_late_labels_count_for_the_revision_that_predicted_and_once(space: Any, tmp_path: Path) -> None:
    if space.cluster.running is None:
        pytest.skip("the log is a folder of this machine")
    sink, server = tmp_path / "log", {"inputLog": {"sampleRate": 1, "sink": (tmp_path / "log").as_uri()}}
    space.apply("late", "quick/breast-cancer/1", strategy=GATE, server=server)
    space.wait_live("late", "1")
    space.apply("late", "quick/breast-cancer/2", strategy=GATE, server=server)
    status = lambda: space.kube.get(MODELDEPLOYMENTS, "late")["status"]  # noqa: E731
    wait_until(lambda: status().get("phase") == "Paused", "the canary waits", seconds=60)
    revisions = addresses(space, "late")
    assert len(revisions) == 2
    rows = ["request,truth", "unknown,1"]
    for place, (revision, address) in enumerate(revisions.items()):
        for number in range(4):
            said = predict(address, f"{revision}-{number}")
            # The first revision is wrong once, the second twice.
            rows.append(f"{revision}-{number},{said if number > place else 1 - said}")
    lines = lambda: sum(len(file.read_text().splitlines()) for file in sink.rglob("*.jsonl"))  # noqa: E731
    wait_until(lambda: lines() == 8, "all predictions are in the log", seconds=30)
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(rows))

    words = ("labels", "late", "--labels", table.as_uri(), "--id", "request", "--label", "truth")
    first = modeldeploy(space, *words)
    assert first.returncode == 0, first.stderr
    expected = dict(zip(revisions, [(3, 1), (2, 2)], strict=True))
    assert {revision: counted(address) for revision, address in revisions.items()} == expected
    for revision, accuracy in zip(revisions, ("0.75", "0.5"), strict=True):
        assert f"{revision} (version" in first.stdout
        assert f"accuracy {accuracy}" in next(line for line in first.stdout.splitlines() if line.startswith(revision))
    assert "1 labels have an id that is not in the log" in first.stdout

    second = modeldeploy(space, *words)
    assert second.returncode == 0, second.stderr
    assert "0 sent, 4 sent before" in second.stdout
    assert {revision: counted(address) for revision, address in revisions.items()} == expected

    wrong = modeldeploy(space, *words[:-1], "thruth")
    assert wrong.returncode == 3
    assert "no column 'thruth'" in wrong.stderr
    assert "Did you mean --label truth?" in wrong.stderr
