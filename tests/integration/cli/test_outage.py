"""A command that waits outlives an API server that goes away and comes back."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from free_ports import free_port
from waiting import wait_until

from modeldeploy.kube import MODELDEPLOYMENTS, Kube
from modeldeploy.stand import install_crd, start_sandbox

MANIFEST = {
    "apiVersion": "modeldeploy.dev/v1alpha1",
    "kind": "ModelDeployment",
    "metadata": {"name": "fraud"},
    "spec": {"model": {"storageUri": "s3://models/fraud/7"}},
}
READY = {"type": "Ready", "status": "True", "reason": "X", "message": "", "lastTransitionTime": "2026-05-01T11:00:00Z"}


@pytest.mark.parametrize("words", [["status", "fraud", "--wait"], ["watch", "fraud", "--until-over"]], ids=" ".join)
def test_an_api_server_that_restarts_ends_no_wait(tmp_path: Path, words: list[str]) -> None:
    port, kubeconfig = str(free_port()), tmp_path / "kubeconfig"
    output, errors = tmp_path / "output", tmp_path / "errors"
    with ExitStack() as stack:
        out, err = stack.enter_context(output.open("w")), stack.enter_context(errors.open("w"))
        with start_sandbox(tmp_path, "--port", port, "--pods", "none"):
            install_crd(kubeconfig)
            set_status(kubeconfig, {"observedGeneration": 1, "phase": "Progressing", "message": "on its way"})
            command = [sys.executable, "-u", "-m", "modeldeploy", "--kubeconfig", str(kubeconfig), *words]
            waiting = stack.enter_context(subprocess.Popen(command, stdout=out, stderr=err))
            stack.callback(waiting.kill)
            wait_until(lambda: "on its way" in output.read_text(), "the command waits", seconds=30)
        wait_until(lambda: errors.read_text().endswith("\n"), "the command misses the API server", seconds=30)
        with start_sandbox(tmp_path, "--port", port, "--pods", "none"):
            set_status(kubeconfig, {"phase": "Healthy", "message": "serves", "conditions": [READY]})
            assert waiting.wait(30) == 0
    said = errors.read_text()
    assert said.startswith(f"http://127.0.0.1:{port} does not answer: ")
    assert said.endswith("; trying again\n")
    assert said.count("\n") == 1


def set_status(kubeconfig: Path, status: dict[str, object]) -> None:
    with Kube.connect(kubeconfig) as kube:
        kube.apply(MODELDEPLOYMENTS, MANIFEST)
        kube.merge(MODELDEPLOYMENTS, "fraud", {"status": status}, subresource="status")
