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
        pytest.param({"monitoring": {"dataQuality": {}}}, id="data quality"),
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


def test_a_limit_of_data_quality_is_another_revision_unless_it_is_the_default() -> None:
    def limited(**limits: float) -> str:
        return revision({**SPEC, "monitoring": {"dataQuality": {"limits": limits}}})

    assert limited() == limited(missing=0.05, outlier=0.05) == revision({**SPEC, "monitoring": {"dataQuality": {}}})
    assert limited(missing=0.1) != limited()


def with_overlay(overlay: dict[str, Any]) -> str:
    return revision({**SPEC, "server": {"workers": 1, "podTemplate": overlay}})


@pytest.mark.parametrize(
    "overlay",
    [
        pytest.param({}, id="an empty overlay"),
        pytest.param({"metadata": {"labels": {}}, "spec": {"nodeSelector": {}}}, id="empty maps"),
        pytest.param({"spec": {"containers": [], "volumes": []}}, id="empty lists that merge by key"),
        pytest.param({"spec": {"containers": [{"name": "server"}]}}, id="the server's container without a field"),
        pytest.param(
            {"spec": {"containers": [{"name": "server", "securityContext": {}, "env": []}]}},
            id="the server's container with empty fields",
        ),
    ],
)
def test_an_overlay_without_effect_is_no_revision(overlay: dict[str, Any]) -> None:
    sidecar = {"name": "proxy", "image": "proxy:1"}
    spec = {**overlay.get("spec", {}), "containers": [*overlay.get("spec", {}).get("containers", ()), sidecar]}
    assert with_overlay(overlay) == revision(SPEC)
    assert with_overlay({**overlay, "spec": spec}) == with_overlay({"spec": {"containers": [sidecar]}})


@pytest.mark.parametrize(
    "overlay",
    [
        pytest.param({"spec": {"terminationGracePeriodSeconds": None}}, id="a null removes a field"),
        pytest.param(
            {"spec": {"containers": [{"name": "server", "livenessProbe": None}]}}, id="a null removes a probe"
        ),
        pytest.param({"spec": {"containers": [{"name": "proxy"}]}}, id="another container"),
        pytest.param({"spec": {"volumes": [{"name": "scratch", "emptyDir": {}}]}}, id="an empty map in a list"),
        pytest.param({"spec": {"topologySpreadConstraints": []}}, id="an empty list that replaces another"),
    ],
)
def test_an_overlay_with_an_effect_is_a_revision(overlay: dict[str, Any]) -> None:
    assert with_overlay(overlay) != revision(SPEC)


def test_a_refresh_token_is_another_revision_of_the_same_spec() -> None:
    assert revision(SPEC, **{"modeldeploy.dev/refresh": "monday"}) != revision(SPEC)


def test_a_revision_is_fit_for_the_end_of_a_service_name() -> None:
    assert revision(SPEC).isalnum()
    assert len(revision(SPEC)) == 8
