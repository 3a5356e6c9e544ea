"""From the last release to this tree and back, with models under load: nothing restarts, nothing is lost.

The operator, the chart and the definition of the release come from the git history. Its operator runs as a pod of the
same image, with its own code first on the path.
"""

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from model_packages import VERSIONS, own_predictions, some_rows
from waiting import wait_until

from modeldeploy.demo.load import Load
from modeldeploy.kube import DEPLOYMENTS, MODELDEPLOYMENTS, PODS, SERVICES
from modeldeploy.stand import checkout

pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this machine")

#: The commit of the last release.
RELEASE = "a4227d03e917488987fe12a1c7e72af6b9027c7d"
SETTINGS = {"MODEL_OPERATOR_PRE_STOP_SECONDS": "1"}
#: Specs whose revisions a new operator or definition could take for others: quantities in several spellings, defaults.
SPECS: dict[str, dict[str, Any]] = {
    "plain": {},
    "spelt": {
        "replicas": 2,
        "server": {
            "resources": {"requests": {"cpu": "0.1", "memory": "131072Ki"}},
            "podTemplate": {"spec": {"volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1024Mi"}}]}},
        },
        "strategy": {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}},
    },
    "watched": {"monitoring": {"drift": {}}, "server": {"inputLog": {"sampleRate": 1.0}, "env": [{"name": "A"}]}},
}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the last release."""
    done = subprocess.run(
        ["git", "archive", RELEASE, "operator", "helm", "crds"], cwd=checkout(), capture_output=True, timeout=60
    )
    if done.returncode:
        pytest.skip(f"the history does not reach back to the last release: {done.stderr.decode().strip()}")
    folder = tmp_path_factory.mktemp("release")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def definition(tree: Path) -> Any:
    """The definition of a tree; two rules of the release did not compile on any API server, and are mended."""
    text = (tree / "crds" / "modeldeployments.yaml").read_text()
    for field in ("self.strategy.canary.maxSurge", "self.maxSurge", "self.maxUnavailable"):
        text = text.replace(f"{field} in [0, '0%']", f"string({field}) in ['0', '0%']")
    return yaml.safe_load(text)


class Upgrade:
    """The chart's release of the cluster of these tests."""

    def __init__(self, space: Any, release: Path) -> None:
        self._space, self._release = space, release

    def to_release(self) -> None:
        self._define(self._release)
        self._helm("upgrade", self._release, PYTHONPATH=str(self._release / "operator"))

    def to_this_tree(self) -> None:
        self._define(checkout())
        self._helm("upgrade", checkout())

    def back(self) -> None:
        self._define(self._release)
        self._helm("rollback", self._release)

    def _define(self, tree: Path) -> None:
        """Apply the definition as the chart's notes say."""
        command = ["apply", "--server-side", "--force-conflicts", "-f", "-"]
        done = self._space.kubectl(*command, given=yaml.safe_dump(definition(tree)))
        assert done.returncode == 0, done.stderr

    def _helm(self, action: str, tree: Path, **settings: str) -> None:
        variables = {**SETTINGS, **settings}
        values = {"replicas": 1, "extraEnv": [{"name": name, "value": value} for name, value in variables.items()]}
        command = [sys.executable, "-m", "modeldeploy.stand.chart", action, "--values", json.dumps(values)]
        command += ["--kubeconfig", str(self._space.cluster.kubeconfig), "--chart", str(tree / "helm" / "modeldeploy")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def upgrade(space: Any, release: Path) -> Iterator[Upgrade]:
    if space.cluster.running is None:
        pytest.skip("changes the operator of the cluster: needs one that runs on this machine (NODE=sandbox)")
    upgrade = Upgrade(space, release)
    upgrade.to_release()
    yield upgrade
    upgrade.to_this_tree()


def picture(space: Any) -> dict[str, Any]:
    """What may not change: pods with their restarts, revisions, and the Deployments that there are."""
    pods = space.kube.list(PODS)
    return {
        "pods": {pod["metadata"]["uid"]: restarts(pod) for pod in pods},
        "revisions": {name: space.kube.get(MODELDEPLOYMENTS, name)["status"]["stableRevision"] for name in SPECS},
        "deployments": sorted(one["metadata"]["name"] for one in space.kube.list(DEPLOYMENTS)),
        "services": sorted(one["metadata"]["name"] for one in space.kube.list(SERVICES)),
    }


def restarts(pod: dict[str, Any]) -> int:
    return sum(int(one["restartCount"]) for one in pod["status"].get("containerStatuses", ()))


def wait_for_a_pass(space: Any, limit: int) -> None:
    """Wait until the operator in charge has reconciled every model: a new field that changes nothing is observed."""
    for name in SPECS:
        space.kube.merge(MODELDEPLOYMENTS, name, {"spec": {"revisionHistoryLimit": limit}})

    def observed() -> bool:
        found = [space.kube.get(MODELDEPLOYMENTS, name) for name in SPECS]
        return all(
            body["status"]["observedGeneration"] == body["metadata"]["generation"]
            and body["status"]["phase"] == "Healthy"
            for body in found
        )

    wait_until(observed, "the operator has reconciled every model", seconds=60)


@pytest.mark.timeout(420)
def test_an_upgrade_and_the_way_back_restart_nothing(space: Any, upgrade: Upgrade) -> None:
    rows = some_rows(20)
    expected = {version: own_predictions(version, rows) for version in VERSIONS}
    for name, spec in SPECS.items():
        space.apply(name, "quick/breast-cancer/1", **spec)
    for name in SPECS:
        space.wait_live(name, "1")
    before = picture(space)
    with ExitStack() as stack:
        loads = [stack.enter_context(Load(f"{space.url(name)}/predict", rows, expected, rate=20)) for name in SPECS]
        upgrade.to_this_tree()
        wait_for_a_pass(space, 4)
        assert picture(space) == before, "the upgrade changed something"
        upgrade.back()
        wait_for_a_pass(space, 5)
        assert picture(space) == before, "the way back changed something"
    assert [load.report.failed for load in loads] == [[], [], []]
    assert all(load.report.answered["1"] for load in loads)
