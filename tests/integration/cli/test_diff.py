"""`modeldeploy diff` against a real API server: dry runs, defaults and refusals; nothing is stored."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from modeldeploy.kube import DEPLOYMENTS, MODELDEPLOYMENTS, Kube

Run = Callable[..., Any]  # the fixture `run`: how a command ended

SPEC: dict[str, Any] = {"model": {"storageUri": "s3://models/fraud/7"}}


@pytest.fixture
def kube(kubeconfig: Path) -> Iterator[Kube]:
    with Kube.connect(kubeconfig) as connection:
        yield connection
        for one in connection.list(MODELDEPLOYMENTS):
            connection.delete(MODELDEPLOYMENTS, one["metadata"]["name"])


def a_manifest(spec: dict[str, Any], name: str = "fraud") -> dict[str, Any]:
    return {
        "apiVersion": "modeldeploy.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": spec,
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Writes manifests into one file, and returns its path."""

    def call(*bodies: dict[str, Any]) -> str:
        (tmp_path / "manifests.yaml").write_text(yaml.safe_dump_all(bodies))
        return str(tmp_path / "manifests.yaml")

    return call


@pytest.fixture
def applied(kube: Kube, kubeconfig: Path, write: Callable[..., str]) -> Callable[..., None]:
    """Applies with kubectl, as people do."""

    def call(*bodies: dict[str, Any]) -> None:
        command = ["kubectl", "--kubeconfig", str(kubeconfig), "apply", "-f", write(*bodies)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    return call


def test_an_object_that_is_not_there(run: Run, kube: Kube, write: Callable[..., str]) -> None:
    done = run("diff", "-f", write(a_manifest(SPEC)))
    assert (done.code, kube.list(MODELDEPLOYMENTS)) == (1, [])
    assert "+    storageUri: s3://models/fraud/7" in done.out.splitlines()
    assert "default/fraud: would be created" in done.out


def test_what_was_applied_is_no_change(run: Run, applied: Callable[..., None], write: Callable[..., str]) -> None:
    applied(a_manifest(SPEC))
    done = run("diff", "-f", write(a_manifest(SPEC)))
    assert (done.code, done.out) == (0, "default/fraud: no change\n")
    assert "1 compared: 0 would change, 0 would roll, 0 would be refused" in done.err
    assert run("refresh", "fraud").code == 0  # the annotation is the command's, and stays
    assert run("diff", "-f", write(a_manifest(SPEC))).out == "default/fraud: no change\n"


def test_what_pods_know_nothing_of_does_not_roll(
    run: Run, applied: Callable[..., None], write: Callable[..., str]
) -> None:
    applied(a_manifest({**SPEC, "replicas": 2}))
    done = run("diff", "-f", write(a_manifest({**SPEC, "autoscaling": {"maxReplicas": 3}})))
    assert done.code == 1
    assert "-  replicas: 2" in done.out.splitlines()
    assert "+    minReplicas: 1" in done.out.splitlines()  # the API server's default
    assert "no new revision, no pod restarts: spec.autoscaling, spec.replicas" in done.out


def test_another_model_rolls_and_nothing_is_stored(
    run: Run, kube: Kube, applied: Callable[..., None], write: Callable[..., str]
) -> None:
    applied(a_manifest(SPEC))
    spec = {"model": {"storageUri": "s3://models/fraud/8"}, "strategy": {"canary": {"steps": [{"setWeight": 10}]}}}
    done = run("diff", "-f", write(a_manifest(spec)))
    assert done.code == 1
    assert "a new revision, rolls out by canary (10 %): spec.model.storageUri" in done.out
    assert kube.get(MODELDEPLOYMENTS, "fraud")["spec"]["model"]["storageUri"] == "s3://models/fraud/7"


def test_a_revision_that_the_cluster_has_is_named(
    run: Run, kube: Kube, applied: Callable[..., None], write: Callable[..., str]
) -> None:
    applied(a_manifest({"model": {"storageUri": "s3://models/fraud/8"}}))
    labels = {"modeldeploy.dev/name": "fraud", "modeldeploy.dev/revision": "abc"}
    source = kube.create(MODELDEPLOYMENTS, a_manifest(SPEC, "source"), dry_run=True)["spec"]
    pods = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "server", "image": "x"}]}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "fraud-abc",
            "labels": labels,
            "annotations": {"modeldeploy.dev/revision-spec": json.dumps(source)},
        },
        "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": pods},
    }
    kube.apply(DEPLOYMENTS, deployment)
    done = run("diff", "-f", write(a_manifest(SPEC)))
    kube.delete(DEPLOYMENTS, "fraud-abc")
    assert "revision abc, which the cluster still has, rolls out by rollingUpdate" in done.out


def test_an_object_of_a_server_side_apply_is_applied_by_its_manager(
    run: Run, kube: Kube, write: Callable[..., str]
) -> None:
    kube.apply(MODELDEPLOYMENTS, a_manifest({**SPEC, "replicas": 2}), manager="argocd-controller")
    done = run("diff", "-f", write(a_manifest(SPEC)))
    assert "-  replicas: 2" in done.out.splitlines()
    assert done.code == 1


def test_a_refusal_is_told_beside_the_others(run: Run, kube: Kube, write: Callable[..., str]) -> None:
    wrong = a_manifest({**SPEC, "replicas": 1, "autoscaling": {"maxReplicas": 2}}, "wrong")
    unknown = a_manifest({**SPEC, "replica": 1}, "unknown")
    done = run("diff", "-f", write(wrong, unknown, a_manifest(SPEC)))
    assert done.code == 3
    assert "default/wrong: would be refused: " in done.out
    assert "give either spec.replicas or spec.autoscaling" in done.out
    assert "default/unknown: would be refused: " in done.out
    assert "spec.replica" in done.out
    assert "default/fraud: would be created" in done.out
    assert "3 compared: 1 would change, 1 would roll, 2 would be refused" in done.err


def test_other_kinds_are_left_to_kubectl(run: Run, write: Callable[..., str]) -> None:
    other = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    assert "not compared: Secret (kubectl diff does)" in run("diff", "-f", write(other, a_manifest(SPEC))).err
    done = run("diff", "-f", write(other))
    assert done.code == 3
    assert "has no ModelDeployment; there are: Secret" in done.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("{", "is no YAML", id="no YAML"),
        pytest.param("[" * 500, "is nested too deep", id="too deep"),
        pytest.param("apiVersion: modeldeploy.dev/v1alpha1\nkind: ModelDeployment\n", "no metadata.name", id="no name"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(run: Run, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    done = run("diff", "-f", str(tmp_path / "a.yaml"))
    assert done.code == 3
    assert said in done.err
    assert run("diff", "-f", str(tmp_path / "nothing.yaml")).code == 1
