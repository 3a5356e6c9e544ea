"""Autoscalers as Kubernetes reads them: each is valid by the schemas of the oldest and the newest release."""

from typing import Any

import kubernetes_validate
import pytest

from model_operator.api.resource import ModelDeployment
from model_operator.manifests.workload import autoscaler

Body = dict[str, Any]

OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()
POLICIES = [{"type": "Pods", "value": 4, "periodSeconds": 60}, {"type": "Percent", "value": 10, "periodSeconds": 60}]
GPU = {"type": "Pods", "pods": {"metric": {"name": "gpu"}, "target": {"type": "AverageValue", "averageValue": "70"}}}
QUIET = {"scaleDown": {"stabilizationWindowSeconds": 600, "policies": POLICIES}, "scaleUp": {"selectPolicy": "Min"}}


def rendered(**autoscaling: Any) -> Body:
    spec = {"model": {"storageUri": "s3://models/fraud/7"}, "autoscaling": {"maxReplicas": 8, **autoscaling}}
    metadata = {"name": "fraud", "namespace": "default", "uid": "1", "generation": 1, "resourceVersion": "1"}
    resource = ModelDeployment.from_body({"metadata": metadata, "spec": spec})
    assert resource.spec.autoscaling is not None
    assert not resource.unknown_fields
    return autoscaler(resource, "bcdfghjk", resource.spec.autoscaling, least=1)


def utilization(name: str, percent: int) -> Body:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": name, "target": target}}


def per_second(quantity: str) -> Body:
    metric = {"name": "modeldeploy_requests_per_second"}
    return {"type": "Pods", "pods": {"metric": metric, "target": {"type": "AverageValue", "averageValue": quantity}}}


def waiting(quantity: str) -> Body:
    metric = {"name": "modeldeploy_stream_lag", "selector": {"matchLabels": {"model": "fraud"}}}
    target = {"type": "AverageValue", "averageValue": quantity}
    return {"type": "External", "external": {"metric": metric, "target": target}}


@pytest.mark.parametrize(
    ("autoscaling", "metrics"),
    [
        pytest.param({}, [utilization("cpu", 70)], id="no target is 70 % of the CPU"),
        pytest.param({"targetCPUUtilizationPercentage": 50}, [utilization("cpu", 50)], id="CPU"),
        pytest.param({"targetMemoryUtilizationPercentage": 80}, [utilization("memory", 80)], id="memory alone"),
        pytest.param({"targetRequestsPerSecond": 200}, [per_second("200")], id="requests alone"),
        pytest.param({"targetRequestsPerSecond": 0.5}, [per_second("500m")], id="one request in two seconds"),
        pytest.param({"targetRequestsPerSecond": 0.001}, [per_second("1m")], id="the smallest target"),
        pytest.param({"targetRequestsPerSecond": 1500.0}, [per_second("1500")], id="more than a thousand requests"),
        pytest.param({"targetStreamLag": 500}, [waiting("500")], id="messages alone"),
        pytest.param({"targetStreamLag": 1_000_000}, [waiting("1M")], id="a million messages"),
        pytest.param(
            {
                "targetRequestsPerSecond": 20,
                "targetMemoryUtilizationPercentage": 80,
                "targetCPUUtilizationPercentage": 60,
            },
            [utilization("cpu", 60), utilization("memory", 80), per_second("20")],
            id="all targets",
        ),
        pytest.param({"metrics": [GPU], "targetCPUUtilizationPercentage": 70}, [GPU], id="metrics replace targets"),
    ],
)
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_targets_are_metrics(autoscaling: Body, metrics: list[Body], version: str) -> None:
    body = rendered(**autoscaling)
    assert body["spec"]["metrics"] == metrics
    assert "behavior" not in body["spec"], "without one, Kubernetes has its own"
    kubernetes_validate.validate(body, version, strict=True)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_behavior_is_passed_through(version: str) -> None:
    body = rendered(behavior=QUIET)
    assert body["spec"]["behavior"] == QUIET
    kubernetes_validate.validate(body, version, strict=True)


def test_tolerance_is_known_to_newer_releases() -> None:
    body = rendered(behavior={"scaleUp": {"tolerance": "0.05"}})
    assert body["spec"]["behavior"] == {"scaleUp": {"tolerance": "0.05"}}
    kubernetes_validate.validate(body, NEWEST, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError, match="tolerance"):
        kubernetes_validate.validate(body, OLDEST, strict=True)
