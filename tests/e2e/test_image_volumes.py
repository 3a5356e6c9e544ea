"""`spec.model.mount: image` at a real API server, which keeps the volume of the image. No node pulls it here."""

from __future__ import annotations

import os
from typing import Any

import pytest
import yaml
from waiting import wait_until

from modeldeploy.kube import DEPLOYMENTS

#: Of those that the values of tests/support/pod_policy_cases.py allow.
IMAGE = f"registry.example.com/ml/fraud:7@sha256:{'0' * 64}"


@pytest.mark.cluster
@pytest.mark.skipif(os.environ.get("NODE") != "sandbox", reason="needs the tests' values of the chart: NODE=sandbox")
def test_an_api_server_accepts_pods_with_the_image_as_a_volume(space: Any) -> None:
    server = {"podTemplate": {"spec": {"imagePullSecrets": [{"name": "registry"}]}}}
    manifest = {
        "apiVersion": "modeldeploy.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "mounted"},
        "spec": {"model": {"storageUri": f"oci://{IMAGE}", "mount": "image"}, "server": server},
    }
    done = space.kubectl("apply", "-f", "-", given=yaml.safe_dump(manifest))
    assert done.returncode == 0, done.stderr

    def deployments() -> list[dict[str, Any]]:
        return [one for one in space.kube.list(DEPLOYMENTS) if one["metadata"]["name"].startswith("mounted-")]

    (deployment,) = wait_until(deployments, "the operator makes a Deployment")
    template = deployment["spec"]["template"]
    (volume,) = [one for one in template["spec"]["volumes"] if "image" in one]
    assert volume["image"] == {"reference": IMAGE, "pullPolicy": "IfNotPresent"}
    (container,) = template["spec"]["containers"]
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    environment = {one["name"]: one.get("value") for one in container["env"]}
    assert mounts[volume["name"]] == environment["MODEL_SERVER_IMAGE_DIR"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mounted"}, "spec": template["spec"]}
    done = space.kubectl("create", "--dry-run=server", "-f", "-", given=yaml.safe_dump(pod))
    assert done.returncode == 0, done.stderr
