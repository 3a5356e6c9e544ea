"""What makes a revision, and what does not."""

from typing import Any

import pytest

from model_operator.api.resource import ModelDeployment

SPEC: dict[str, Any] = {"model": {"storageUri": "s3://m/1"}, "server": {"workers": 1}, "replicas": 1}


def revision(spec: dict[str, Any], **annotations: str) -> str:
    metadata = {"name": "m", "namespace": "n", "uid": "u", "generation": 1, "resourceVersion": "1"}
    return ModelDeployment.from_body({"metadata": {**metadata, "annotations": annotations}, "spec": spec}).target


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"model": {"storageUri": "s3://m/2"}}, id="another model"),
        pytest.param({"server": {"workers": 2}}, id="another server"),
        pytest.param({"monitoring": {"drift": {"threshold": 0.1}}}, id="another threshold of drift"),
        pytest.param({"server": {"workers": 1, "podTemplate": {"spec": {"nodeName": "x"}}}}, id="another overlay"),
    ],
)
def test_what_makes_pods_differ_is_another_revision(change: dict[str, Any]) -> None:
    assert revision({**SPEC, **change}) != revision(SPEC)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"replicas": 5}, id="another size"),
        pytest.param({"strategy": {"blueGreen": {}}}, id="another strategy"),
        pytest.param({"paused": True}, id="a pause"),
        pytest.param({"monitoring": {"alerts": True}}, id="alerts, which no pod knows of"),
        pytest.param({"server": {"workers": 1}, "model": {"storageUri": "s3://m/1"}}, id="another order of fields"),
    ],
)
def test_what_leaves_pods_alone_is_the_same_revision(change: dict[str, Any]) -> None:
    assert revision({**SPEC, **change}) == revision(SPEC)


def test_a_refresh_token_is_another_revision_of_the_same_spec() -> None:
    assert revision(SPEC, **{"modeldeploy.dev/refresh": "monday"}) != revision(SPEC)


def test_a_revision_is_fit_for_the_end_of_a_service_name() -> None:
    assert revision(SPEC).isalnum()
    assert len(revision(SPEC)) == 8
