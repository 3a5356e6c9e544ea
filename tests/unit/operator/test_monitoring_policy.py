"""Objects for Prometheus come from namespaces that the platform lists; by default from all."""

from contextlib import nullcontext
from typing import Any

import pytest

from model_operator.api.pool import ModelPool
from model_operator.api.resource import ModelDeployment
from model_operator.errors import NotAllowed
from model_operator.manifests.pool import template_of
from model_operator.policy.monitoring_policy import POLICY
from model_operator.settings import Settings


def model(namespace: str = "team-a", **monitoring: Any) -> ModelDeployment:
    metadata = {"name": "fraud", "namespace": namespace, "uid": "u", "resourceVersion": "1", "generation": 1}
    spec = {"model": {"storageUri": "s3://b/m"}, "monitoring": monitoring}
    return ModelDeployment.from_body({"metadata": metadata, "spec": spec})


@pytest.mark.parametrize(
    ("wanted", "namespaces"),
    [
        pytest.param({"serviceMonitor": True, "alerts": True}, ("*",), id="everywhere"),
        pytest.param({"serviceMonitor": True}, ("shop", "team-a"), id="a namespace by name"),
        pytest.param({"alerts": True}, ("team-?",), id="a namespace by a pattern"),
        pytest.param({"drift": {"threshold": 0.1}}, (), id="what makes no such object"),
        pytest.param({"serviceMonitor": False, "alerts": False}, (), id="what is not asked for"),
    ],
)
def test_allowed(wanted: Any, namespaces: tuple[str, ...]) -> None:
    Settings(monitoring_namespaces=",".join(namespaces)).admission.check(model(**wanted))


@pytest.mark.parametrize(
    ("wanted", "namespaces", "said"),
    [
        pytest.param({"serviceMonitor": True}, (), "monitoring.serviceMonitor: ", id="nowhere"),
        pytest.param({"alerts": True}, ("shop",), "monitoring.alerts: ", id="alerts elsewhere"),
        pytest.param({"alerts": True}, ("team-b", "shop-*"), "may have them: team-b, shop-*.", id="the list is shown"),
        pytest.param({"alerts": True}, ("team",), "an entry team-a in monitoring.namespaces", id="a beginning"),
    ],
)
def test_refused(wanted: Any, namespaces: tuple[str, ...], said: str) -> None:
    with pytest.raises(NotAllowed) as refused:
        Settings(monitoring_namespaces=",".join(namespaces)).admission.check(model(**wanted))
    assert said in str(refused.value)
    assert "administrator of the cluster" in str(refused.value)
    assert refused.value.reason == POLICY


def test_the_setting_is_a_list_of_names() -> None:
    assert Settings().admission.monitored_namespaces == ("*",)
    assert Settings(monitoring_namespaces="team-*, shop").admission.monitored_namespaces == ("team-*", "shop")
    assert Settings(monitoring_namespaces="").admission.monitored_namespaces == ()


def test_pools_are_asked_for_the_same() -> None:
    pool = a_pool(monitoring={"serviceMonitor": True})
    for namespaces in ("team-*", "shop"):
        admission = Settings(monitoring_namespaces=namespaces).admission
        refused = nullcontext() if namespaces == "team-*" else pytest.raises(NotAllowed, match="serviceMonitor: ")
        with refused:
            admission.check_pool(pool, template_of(pool, admission.settings))


def a_pool(**spec: Any) -> ModelPool:
    metadata = {"name": "small", "namespace": "team-a", "uid": "u", "generation": 1}
    return ModelPool.from_body({"metadata": metadata, "spec": {"models": [], **spec}})


def test_the_operator_checks_it_with_the_other_policies() -> None:
    admission = Settings(monitoring_namespaces="shop").admission
    admission.check(model("shop", alerts=True))
    with pytest.raises(NotAllowed, match=r"monitoring\.alerts"):
        admission.check(model("team-a", alerts=True))
