"""What `modeldeploy diff` says is what the operator then does: a new revision, the same one, or an older one."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from modeldeploy.kube import MODELDEPLOYMENTS

QUICK = "quick/breast-cancer"


def a_manifest(space: Any, version: str, **spec: Any) -> dict[str, Any]:
    model = {"storageUri": f"{space.cluster.models_uri}/{QUICK}/{version}", "trusted": True}
    return {
        "apiVersion": "modeldeploy.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "judged"},
        "spec": {"model": model, **spec},
    }


def diff(space: Any, body: dict[str, Any]) -> tuple[int, str]:
    command = [str(Path(sys.executable).parent / "kubectl-modeldeploy"), "diff", "-f", "-"]
    environ = {**os.environ, "KUBECONFIG": str(space.kubeconfig)}
    done = subprocess.run(command, input=yaml.safe_dump(body), env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, done.stdout


def apply(space: Any, body: dict[str, Any]) -> str:
    """Apply, wait until it serves, and return the stable revision."""
    done = space.kubectl("apply", "-f", "-", given=yaml.safe_dump(body))
    assert done.returncode == 0, done.stderr
    space.wait_live("judged", body["spec"]["model"]["storageUri"].rpartition("/")[2])
    return str(space.kube.get(MODELDEPLOYMENTS, "judged")["status"]["stableRevision"])


@pytest.mark.timeout(240)
def test_what_is_said_is_what_happens(space: Any) -> None:
    one = a_manifest(space, "1")
    code, told = diff(space, one)
    assert (code, "would be created" in told) == (1, True)
    first = apply(space, one)
    assert diff(space, one)[0] == 0

    larger = a_manifest(space, "1", replicas=2, commonLabels={"team": "a"})
    code, told = diff(space, larger)
    assert (code, "no new revision, no pod restarts: spec.commonLabels, spec.replicas" in told) == (1, True), told
    assert apply(space, larger) == first

    two = a_manifest(space, "2", replicas=2)
    code, told = diff(space, two)
    assert (code, "a new revision, rolls out by rollingUpdate: spec.model.storageUri" in told) == (1, True), told
    second = apply(space, two)
    assert second != first

    code, told = diff(space, one)
    assert (code, f"back to revision {first}, which was live before, without steps" in told) == (1, True), told
    assert apply(space, one) == first
