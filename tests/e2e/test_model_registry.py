"""From a version in Kubeflow's Model Registry to the verdict in it, with a stand-in for its server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import httpx
import mlflow_registry
import model_registry_server
import pytest
from moto.server import ThreadedMotoServer
from readable_secrets import allow_secret
from waiting import wait_until

from modeldeploy.kube import MODELDEPLOYMENTS

NAME = "grapes"


@contextmanager
def bucket(host: str, packages: Path) -> Iterator[dict[str, str]]:
    """A bucket with the versions 1, 2 and 3, of which the last does not load; what a Secret holds to read it."""
    server = ThreadedMotoServer(host, 0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
        client = boto3.client(
            "s3", endpoint_url=keys["AWS_ENDPOINT_URL"], aws_access_key_id="k", aws_secret_access_key="s"
        )
        client.create_bucket(Bucket="models")
        for version, says in (("1", "inputs[:, 0] * 0 + 1"), ("2", "inputs[:, 0] * 0 + 2"), ("3", "1 +")):
            for file in mlflow_registry.package(packages, version, says).iterdir():
                client.put_object(Bucket="models", Key=f"{version}/{file.name}", Body=file.read_bytes())
        client.close()
        yield keys
    finally:
        server.stop()


def test_a_newer_version_is_rolled_out_and_the_verdict_is_written_back(space: Any, tmp_path: Path) -> None:
    if space.cluster.running is None:
        pytest.skip("the registry is on this machine")
    host = space.node_address()
    with (
        bucket(host, tmp_path / "packages") as keys,
        model_registry_server.running(address=host, token="t0ken") as registry,
    ):
        registry.register(NAME, "1.0", "s3://models/1")
        allow_secret(space, "kubeflow", {"MODEL_REGISTRY_TOKEN": "t0ken", **keys})
        space.apply(
            NAME,
            "",
            model={
                "storageUri": f"model-registry://{NAME}",
                "registry": {"url": registry.url},
                "secretName": "kubeflow",
                "pollInterval": "1s",
            },
            strategy={"canary": {"steps": [{"setWeight": 50}], "maxSurge": 1}},
            hooks={"registry": {"secretName": "kubeflow"}},
        )
        space.wait_live(NAME, "1.0", seconds=120)
        assert verdict(registry, "1.0", "promoted")["modeldeploy.deployment"] == f"{space.namespace}/{NAME}"

        text = {"string_value": "Ada", "metadataType": "MetadataStringValue"}
        registry.register(NAME, "2.0", "s3://models/2", customProperties={"owner": text})
        second = space.wait_live(NAME, "2.0", seconds=120)["status"]
        found = verdict(registry, "2.0", "promoted")
        assert (found["modeldeploy.revision"], found["owner"]) == (second["stableRevision"], "Ada")
        assert answer(space) == [2]

        registry.register(NAME, "3.0", "s3://models/3")
        refused = verdict(registry, "3.0", "aborted")
        status = space.kube.get(MODELDEPLOYMENTS, NAME)["status"]
        assert refused["modeldeploy.revision"] == status["abortedRevision"]
        assert space.kubectl("delete", "pod", "--selector", f"modeldeploy.dev/name={NAME}").returncode == 0
        wait_until(lambda: serves_again(space), "another pod serves", seconds=120)
        assert answer(space) == [2], "a pod that starts after a newer version came is of its revision's version"


def verdict(registry: model_registry_server.Registry, version: str, status: str) -> dict[str, str]:
    def properties() -> dict[str, str] | None:
        found = registry.properties(version)
        return found if found.get("modeldeploy.status") == status else None

    return wait_until(properties, lambda: f"version {version} is {status}", seconds=180) or {}


def serves_again(space: Any) -> bool:
    try:
        return bool(answer(space))
    except (httpx.HTTPError, ValueError, KeyError):
        return False


def answer(space: Any) -> Any:
    return httpx.post(f"{space.url(NAME)}/predict", json={"instances": [[1]]}, trust_env=False).json()["predictions"]
