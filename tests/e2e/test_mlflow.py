"""From an alias in MLflow to the verdict in it, with MLflow's own server. Skipped where that is not installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import mlflow_registry
import pytest
from readable_secrets import allow_secret
from waiting import wait_until

from modeldeploy.kube import MODELDEPLOYMENTS

NAME = "tumours"

pytestmark = [
    pytest.mark.skipif(bool(mlflow_registry.MISSING), reason=mlflow_registry.MISSING),
    pytest.mark.heavy,
    # MLflow imports for up to a minute before it listens.
    pytest.mark.timeout(900),
]


def test_a_moved_alias_is_rolled_out_and_the_verdict_is_written_back(space: Any, tmp_path: Path) -> None:
    if space.cluster.running is None:
        pytest.skip("the registry is on this machine")
    packages = tmp_path / "packages"
    with mlflow_registry.running_registry(tmp_path, host=space.node_address()) as registry:
        registry.create(NAME)
        for version, says in (("1", "inputs[:, 0] * 0 + 1"), ("2", "inputs[:, 0] * 0 + 2"), ("3", "1 +")):
            assert registry.register(NAME, mlflow_registry.package(packages, version, says)) == version
        allow_secret(space, "mlflow", dict(registry.credentials))
        apply(space, registry.url)
        wait_until(lambda: failure(space), "the status says that nobody has set the alias", seconds=120)
        registry.set_alias(NAME, "champion", "1")
        space.wait_live(NAME, "1", seconds=120)
        first = verdict(registry, "1", "promoted")
        assert first["modeldeploy.reason"] == "FirstRevision"
        assert first["modeldeploy.deployment"] == f"{space.namespace}/{NAME}"

        registry.set_alias(NAME, "champion", "2")
        second = space.wait_live(NAME, "2", seconds=120)["status"]
        assert verdict(registry, "2", "promoted")["modeldeploy.revision"] == second["stableRevision"]
        assert answer(space) == [2]

        registry.set_alias(NAME, "champion", "3")
        refused = verdict(registry, "3", "aborted")
        status = space.kube.get(MODELDEPLOYMENTS, NAME)["status"]
        assert refused["modeldeploy.revision"] == status["abortedRevision"]
        assert refused["modeldeploy.reason"] == status["history"][0]["reason"]
        assert refused["modeldeploy.message"]
        assert answer(space) == [2], "the version before goes on serving"
        assert space.kubectl("delete", "pod", "--selector", f"modeldeploy.dev/name={NAME}").returncode == 0
        wait_until(lambda: serves_again(space), "another pod serves", seconds=120)
        assert answer(space) == [2], "a pod that starts after the alias was moved is of its revision's version"
        assert registry.tags(NAME, "2")["modeldeploy.status"] == "promoted"

    def is_away() -> bool:
        conditions = space.kube.get(MODELDEPLOYMENTS, NAME)["status"]["conditions"]
        found = next(one for one in conditions if one["type"] == "SourceAvailable")
        return (found["status"], found["reason"]) == ("False", "StorageUnavailable")

    wait_until(is_away, "the condition says that the registry is away", seconds=120)
    assert answer(space) == [2]


def failure(space: Any) -> bool:
    found = space.kube.get(MODELDEPLOYMENTS, NAME).get("status", {}).get("podFailures", ())
    said = f"has no model '{NAME}' with the alias 'champion'"
    return any(one["reason"] == "ArtifactNotFound" and said in one["message"] for one in found)


def apply(space: Any, url: str) -> None:
    space.apply(
        NAME,
        "",
        model={
            "storageUri": f"models:/{NAME}@champion",
            "registry": {"url": url},
            "secretName": "mlflow",
            "pollInterval": "1s",
        },
        strategy={"canary": {"steps": [{"setWeight": 50}], "maxSurge": 1}},
        hooks={"registry": {"secretName": "mlflow"}},
    )


def verdict(registry: mlflow_registry.Registry, version: str, status: str) -> dict[str, str]:
    def tags() -> dict[str, str] | None:
        found = registry.tags(NAME, version)
        return found if found.get("modeldeploy.status") == status else None

    return wait_until(tags, lambda: f"version {version} is {status}: {registry.tags(NAME, version)}", seconds=180) or {}


def serves_again(space: Any) -> bool:
    try:
        return bool(answer(space))
    except (httpx.HTTPError, ValueError, KeyError):
        return False


def answer(space: Any) -> Any:
    return httpx.post(f"{space.url(NAME)}/predict", json={"instances": [[1]]}, trust_env=False).json()["predictions"]
