"""`mlflow deployments` with the target `modeldeploy`, by MLflow's own command line, as docs/how-to/mlflow.md has it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import mlflow_registry
import pytest
from model_packages import REQUEST

from modeldeploy.kube import MODELDEPLOYMENTS

pytestmark = [
    pytest.mark.skipif(bool(mlflow_registry.MISSING), reason=mlflow_registry.MISSING),
    pytest.mark.heavy,
    # Each command imports MLflow.
    pytest.mark.timeout(900),
]


class Deployments:
    """The command, on one namespace."""

    def __init__(self, space: Any) -> None:
        self._target = f"modeldeploy:/{space.namespace}"
        self._env = {**os.environ, "KUBECONFIG": str(space.kubeconfig), "NO_PROXY": "*", "GIT_PYTHON_REFRESH": "quiet"}

    def run(self, verb: str, *words: str, target: str = "") -> subprocess.CompletedProcess[str]:
        command = [mlflow_registry.PYTHON, "-m", "mlflow", "deployments", verb, "--target", target or self._target]
        return subprocess.run([*command, *words], env=self._env, capture_output=True, text=True, timeout=240)

    def does(self, verb: str, *words: str) -> str:
        done = self.run(verb, *words)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def refuses(self, verb: str, *words: str, target: str = "") -> str:
        done = self.run(verb, *words, target=target)
        assert done.returncode != 0, done.stdout
        return done.stdout + done.stderr


def test_a_model_is_created_asked_updated_and_deleted(space: Any, tmp_path: Path) -> None:
    deployments, package = Deployments(space), f"{space.cluster.models_uri}/quick/breast-cancer"
    named = ("--name", "screening")
    config = ("-C", "model.trusted=true", "-C", "server.resources={requests: {cpu: 10m}}")
    deployments.does("create", *named, "--model-uri", f"{package}/1", *config)
    assert "screening exists: update it" in deployments.refuses("create", *named, "--model-uri", f"{package}/1")

    rows = json.loads(REQUEST.read_text())["instances"]
    table = tmp_path / "rows.json"
    table.write_text(json.dumps([dict(enumerate(row)) for row in rows] if isinstance(rows[0], list) else rows))
    told = json.loads(deployments.does("predict", *named, "--input-path", str(table)))
    assert (len(told["predictions"]), told["model_version"]) == (len(rows), "1")

    deployments.does("update", *named, "--model-uri", f"{package}/2", "-C", "replicas=2")
    assert "version: 2\n" in deployments.does("get", *named)
    assert space.kube.get(MODELDEPLOYMENTS, "screening")["spec"]["replicas"] == 2
    assert "screening" in deployments.does("list")
    deployments.does("delete", *named)
    deployments.does("delete", *named)


def test_what_cannot_be_is_refused_with_what_to_write(space: Any) -> None:
    deployments, named = Deployments(space), ("--name", "nothing")
    said = deployments.refuses("create", *named, "--model-uri", "runs:/0123/model")
    assert "register the model, and give models:/NAME/VERSION" in said
    said = deployments.refuses("create", *named, "--model-uri", "file:///models/a", "-C", "replica=2")
    assert ".spec.replica: field not declared in schema" in said
    said = deployments.refuses("create", *named, "--model-uri", "file:///models/a", "-C", "timeout=soon")
    assert "timeout is 'soon'; write seconds" in said
    said = deployments.refuses("list", target="modeldeploy://elsewhere")
    assert "write modeldeploy, or modeldeploy:/NAMESPACE" in said
    assert "no ModelDeployment" in deployments.refuses("get", *named)
