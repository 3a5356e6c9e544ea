"""The pipelines for GitHub and GitLab: their own steps, with the real command line and the real kubectl."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest
import yaml
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from waiting import wait_until

from modeldeploy.kube import MODELDEPLOYMENTS

INTEGRATIONS = Path(__file__).resolve().parents[2] / "integrations"


@pytest.fixture
def churn(space: Any, tmp_path: Path) -> dict[str, str]:
    """A model with its sample, where it goes, and the kustomization that deploys it."""
    if space.cluster.running is None:
        pytest.skip("pods of this cluster do not see the files of this machine")
    data = load_iris(as_frame=True)
    (tmp_path / "churn").mkdir()
    joblib.dump(LogisticRegression(max_iter=500).fit(data.data, data.target), tmp_path / "churn" / "model.joblib")
    pd.DataFrame(data.frame).to_csv(tmp_path / "sample.csv", index=False)
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / "kustomization.yaml").write_text("resources: [mdep.yaml]\n")
    upload = (tmp_path / "bucket" / "churn").as_uri()
    manifest = {
        "apiVersion": "modeldeploy.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "churn"},
        "spec": {"model": {"storageUri": upload, "trusted": True}},
    }
    (tmp_path / "stage" / "mdep.yaml").write_text(yaml.safe_dump(manifest))
    return {
        "package": "churn",
        "sample": "sample.csv",
        "target": "target",
        "trusted": "true",
        "upload": upload,
        "kustomize": "stage",
        "name": "churn",
    }


def run(script: str, folder: Path, space: Any, variables: Mapping[str, str]) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "KUBECONFIG": str(space.kubeconfig), **variables}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def is_serving(space: Any, digest: str) -> bool:
    found = space.kube.get(MODELDEPLOYMENTS, "churn", space.namespace)["status"]
    return bool(found["phase"] == "Healthy" and found.get("model", {}).get("sha256") == digest)


@pytest.mark.timeout(240)
def test_the_steps_of_the_github_action(space: Any, churn: dict[str, str], tmp_path: Path) -> None:
    action = yaml.safe_load((INTEGRATIONS / "github" / "action.yml").read_text())
    inputs = {name: str(one["default"]) for name, one in action["inputs"].items()} | churn | {"timeout": "3m"}
    output = tmp_path / "output"
    ran = []
    for step in action["runs"]["steps"]:
        if step["name"] == "Install modeldeploy" or not is_wanted(step.get("if", ""), inputs):
            continue
        given = {name: filled(text, inputs) for name, text in step["env"].items()}
        run(step["run"], tmp_path, space, given | {"GITHUB_OUTPUT": str(output)})
        ran.append(step["name"])
    assert ran == ["Package", "Check", "Apply", "Wait for the verdict"]
    name, digest = output.read_text().strip().split("=")
    assert name == "sha256"
    wait_until(lambda: is_serving(space, digest), "the package that was uploaded serves", seconds=20)
    space.kube.delete(MODELDEPLOYMENTS, "churn", space.namespace)


def is_wanted(condition: str, inputs: Mapping[str, str]) -> bool:
    """Whether one of `inputs.NAME != ''` holds, which is all that the action asks."""
    names = re.findall(r"inputs\.([a-z-]+) != ''", condition)
    assert " || ".join(f"inputs.{name} != ''" for name in names) == condition
    return not names or any(inputs[name] for name in names)


def filled(text: str, inputs: Mapping[str, str]) -> str:
    found = re.fullmatch(r"\$\{\{ inputs\.([a-z-]+) \}\}", text)
    assert found is not None, text
    return inputs[found[1]]


@pytest.mark.timeout(240)
def test_the_jobs_of_the_gitlab_template(space: Any, churn: dict[str, str], tmp_path: Path) -> None:
    jobs = yaml.safe_load((INTEGRATIONS / "gitlab" / "modeldeploy.gitlab-ci.yml").read_text())
    variables = {name.upper(): value for name, value in churn.items()} | {"TIMEOUT": "3m"}
    told = [
        run("\n".join(jobs[job]["script"]), tmp_path, space, variables)
        for job in (".modeldeploy-package", ".modeldeploy-diff", ".modeldeploy-deploy")
    ]
    assert f"{space.namespace}/churn: would be created" in told[1]
    digest = (tmp_path / "package.env").read_text().strip().removeprefix("SHA256=")
    wait_until(lambda: is_serving(space, digest), "the package that was uploaded serves", seconds=20)
    space.kube.delete(MODELDEPLOYMENTS, "churn", space.namespace)
