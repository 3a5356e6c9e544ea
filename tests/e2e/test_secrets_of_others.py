"""The operator reads a Secret where its team has made the Role of docs/teams.md, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from modeldeploy.kube import MODELDEPLOYMENTS, Resource
from modeldeploy.stand import has_helm, wait_until

PAGE = Path(__file__).resolve().parents[2] / "docs" / "teams.md"
OPERATOR = "system:serviceaccount:modeldeploy:modeldeploy"
SECRETS = Resource("", "v1", "secrets")
pytestmark = pytest.mark.skipif(not has_helm(), reason="the rights are those that the chart gives")


def may_read(space: Any, name: str, namespace: str) -> bool:
    answer = space.kubectl("auth", "can-i", "get", f"secrets/{name}", "-n", namespace, "--as", OPERATOR).stdout.strip()
    assert answer in ("yes", "no")
    return bool(answer == "yes")


def role_of_the_page(namespace: str) -> str:
    """Return the Role that docs/teams.md has, for a namespace."""
    (block,) = [one.partition("```")[0] for one in PAGE.read_text().split("```yaml\n") if "kind: Role\n" in one]
    return block.replace("team-a", namespace)


@pytest.mark.timeout(180)
def test_a_secret_is_read_by_a_role_of_its_team(space: Any) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "prometheus-token"},
        "stringData": {"token": "t"},
    }
    space.kube.apply(SECRETS, secret)
    for namespace in ("kube-system", "default", "modeldeploy", space.namespace):
        assert not may_read(space, "prometheus-token", namespace), namespace
    gate = {"name": "approval", "url": "http://127.0.0.1:9/", "secretName": "prometheus-token", "before": ["Promotion"]}
    space.apply("gated", "quick/breast-cancer/1")
    space.wait_live("gated", "1")
    space.apply("gated", "quick/breast-cancer/2", hooks={"gates": [gate]})

    def message() -> str:
        return str(space.kube.get(MODELDEPLOYMENTS, "gated").get("status", {}).get("message", ""))

    wait_until(lambda: f"make a Role in namespace {space.namespace}" in message(), "the gate lacks a Role", seconds=60)
    assert f"bind it to {OPERATOR}" in message()
    done = space.kubectl("apply", "-f", "-", given=role_of_the_page(space.namespace))
    assert done.returncode == 0, done.stderr
    assert may_read(space, "prometheus-token", space.namespace)
    assert not may_read(space, "another", space.namespace)
    assert not may_read(space, "prometheus-token", "default")
    wait_until(lambda: "Role" not in message() and "approval" in message(), "the gate is asked", seconds=60)


def test_the_page_has_a_role_and_its_binding() -> None:
    assert [one["kind"] for one in yaml.safe_load_all(role_of_the_page("x"))] == ["Role", "RoleBinding"]
