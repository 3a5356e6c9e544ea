"""Servers that are not ours under rollouts: a canary aborted for latency, one promoted, and no request lost."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from foreign_servers import ForeignServer, foreign_server
from sklearn.datasets import load_iris
from waiting import wait_until

from modeldeploy.demo.load import Load
from modeldeploy.kube import MODELDEPLOYMENTS

ROWS = [list(map(float, row)) for row in load_iris().data[::10]]
STRATEGY = {
    "canary": {
        "steps": [{"setWeight": 50}, {"analysis": {"maxDuration": "5m"}}],
        "analysis": {
            "interval": "2s",
            "warmup": "0s",
            "metrics": [
                {"name": "errors", "fail": {"ratioMargin": 1.25}, "pass": {"orMax": 0.05}},
                {"name": "latency", "slowerThan": "100ms", "fail": {"ratioMargin": 1.25}, "pass": {"orMax": 0.05}},
            ],
        },
    }
}


@pytest.fixture(
    params=[
        "scorer",
        pytest.param("mlserver", marks=pytest.mark.heavy),
        pytest.param("kserve", marks=pytest.mark.heavy),
    ]
)
def server(request: pytest.FixtureRequest, tmp_path: Path, cluster: Any) -> ForeignServer:
    if cluster.running is None:
        pytest.skip("its image is a process of this machine")
    return foreign_server(request.param, tmp_path)


@pytest.mark.timeout(300)
def test_a_server_that_is_not_ours_goes_back_for_latency_and_on_without_a_lost_request(
    server: ForeignServer, space: Any
) -> None:
    def deploy(version: str, seconds: float) -> None:
        spec = {**server.spec(version, seconds), "replicas": server.replicas, "strategy": STRATEGY}
        body = {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": server.name}}
        done = space.kubectl("apply", "-f", "-", given=yaml.safe_dump({**body, "spec": spec}))
        assert done.returncode == 0, done.stderr

    def status() -> dict[str, Any]:
        found: dict[str, Any] = space.kube.get(MODELDEPLOYMENTS, server.name).get("status", {})
        return found

    deploy("1", 0)
    space.wait_live(server.name, "1", seconds=120)
    same = server.predictions(ROWS)
    expected = dict.fromkeys(("1", "2", "3"), same)
    with Load(f"{space.url(server.name)}{server.path}", ROWS, expected, rate=60, dialect=server.dialect) as load:
        deploy("2", 0.3)
        wait_until(lambda: status().get("phase") == "Degraded", "version 2 goes back", seconds=120)
        assert "latency" in status()["rollback"]["message"]
        deploy("3", 0)
        space.wait_live(server.name, "3", seconds=120)
        wait_until(lambda: status().get("phase") == "Healthy", "version 3 stays", seconds=60)
    assert load.report.failed == []
    assert load.report.differing == []
    assert set(load.report.answered) == {"1", "2", "3"}
    assert status()["model"]["format"] == "container"
