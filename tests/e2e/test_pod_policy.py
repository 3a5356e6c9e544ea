"""A real API server refuses at apply what the pod policy refuses, as tests/contract/chart/test_pod_policy.py has it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pod_policy_cases import CASES, LEVELS

from modeldeploy.kube import MODELDEPLOYMENTS, Resource
from modeldeploy.stand import wait_until

NAMESPACES = Resource("", "v1", "namespaces", namespaced=False)
POLICIES = Resource("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", namespaced=False)
REFUSAL = "ValidatingAdmissionPolicy 'modeldeploy-pods' with binding 'modeldeploy-pods' denied request: "


@pytest.fixture(scope="module")
def namespaces(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The namespaces of the table, in a cluster with its values of the chart."""
    if not request.config.getoption("--cluster") or os.environ.get("NODE") != "sandbox":
        pytest.skip("the sandbox has no ValidatingAdmissionPolicy; run with --cluster and NODE=sandbox")
    space = request.getfixturevalue("space")
    for name in LEVELS:
        space.kube.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    wait_until(lambda: "denied" in created(space, "team-a", PRIVILEGED.body), "the policy is in force", seconds=60)
    yield space
    for name in LEVELS:
        space.kube.delete(NAMESPACES, name)


PRIVILEGED = next(case for case in CASES if case.title == "privileged")


def created(space: Any, namespace: str, body: dict[str, Any]) -> str:
    """Return what the API server says to a dry run: empty if it creates the object."""
    body = {**body, "metadata": {"name": "fraud", "namespace": namespace}}
    done = space.kubectl("create", "--dry-run=server", "-o", "name", "-f", "-", given=yaml.safe_dump(body))
    assert done.returncode in (0, 1), done.stderr
    return "" if done.returncode == 0 else done.stderr


@pytest.mark.timeout(600)
@pytest.mark.parametrize("namespace", LEVELS)
def test_the_api_server_refuses_what_the_policy_refuses(namespaces: Any, namespace: str) -> None:
    wrong = []
    for case in CASES:
        for body in filter(None, (case.body, case.batch)):
            said = created(namespaces, namespace, body)
            _, is_denied, problems = said.partition(REFUSAL)
            found = {one.partition(" ")[0] for one in problems.partition(". The pod policy of")[0].split("; ")} - {""}
            if found != case.refused(LEVELS[namespace]) or bool(is_denied) != bool(found):
                wrong.append((body["kind"], case.title, said))
    assert wrong == []


def test_the_expressions_have_no_type_that_is_wrong(namespaces: Any) -> None:
    policy = wait_until(
        lambda: (found := namespaces.kube.get(POLICIES, "modeldeploy-pods")).get("status") and found,
        "the expressions are checked",
        seconds=60,
    )
    assert policy["status"]["typeChecking"].get("expressionWarnings", []) == []


def test_what_is_there_before_the_policy_can_be_annotated_and_deleted(namespaces: Any) -> None:
    name = "privileged-before"
    body = {**PRIVILEGED.body, "metadata": {"name": name, "namespace": "gpu"}}
    done = namespaces.kubectl("create", "-f", "-", given=yaml.safe_dump(body))
    assert done.returncode == 0, done.stderr
    done = namespaces.kubectl("annotate", "-n", "gpu", "mdep", name, "team=a")
    assert done.returncode == 0, done.stderr
    assert (
        namespaces.kubectl("delete", "-n", "gpu", "mdep", name, "--cascade=foreground", "--timeout=60s").returncode == 0
    )


def test_the_operator_refuses_what_came_in_without_the_admission_policy(space: Any) -> None:
    """In the sandbox there is no admission policy at all; on a real control plane it is the first to refuse."""
    body = {**PRIVILEGED.body, "metadata": {"name": "rootful"}}
    done = space.kubectl("apply", "-f", "-", given=yaml.safe_dump(body))
    if done.returncode:
        assert "securityContext.privileged" in done.stderr
        return

    def refused() -> str:
        conditions = space.kube.get(MODELDEPLOYMENTS, "rootful").get("status", {}).get("conditions", ())
        return next((c["message"] for c in conditions if c["reason"] == "PodPolicyViolated"), "")

    message = wait_until(refused, "the operator refuses it", seconds=60)
    assert "spec.server.podTemplate.spec.containers[server].securityContext.privileged" in message
    assert "podPolicy of the chart" in message
    assert not [one for one in space.kubectl("get", "deployments", "-o", "name").stdout.split() if "rootful" in one]
