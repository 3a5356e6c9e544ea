"""Autoscalers in a cluster: what is rendered is stored, settled, and changed without a rollout."""

from typing import Any

from operator_in_cluster import Api, api_of, control_plane, operator
from rollout_actions import live
from rollout_world import World
from waiting import eventually

from model_operator.clients.kinds import BY_KIND, RESOURCE

MODEL = {"storageUri": "s3://models/fraud/1"}
#: Two metrics and two policies of one type: lists in which `type` names no entry.
BUSY = {
    "minReplicas": 2,
    "maxReplicas": 6,
    "targetCPUUtilizationPercentage": 60,
    "targetMemoryUtilizationPercentage": 80,
    "targetRequestsPerSecond": 0.5,
    "behavior": {
        "scaleUp": {
            "tolerance": "0.05",
            "policies": [
                {"type": "Pods", "value": 2, "periodSeconds": 15},
                {"type": "Pods", "value": 4, "periodSeconds": 60},
            ],
        },
        "scaleDown": {"stabilizationWindowSeconds": 600, "selectPolicy": "Disabled"},
    },
}


async def scaled(api: Api, kinds_of_metrics: list[str]) -> Any:
    """The autoscaler, once its metrics are of these kinds."""
    found = (await api.call("GET", BY_KIND["HorizontalPodAutoscaler"].collection("default")))["items"]
    return next(
        (one for one in found if [metric["type"] for metric in one["spec"]["metrics"]] == kinds_of_metrics), None
    )


async def condition(api: Api, reason: str) -> Any:
    found = (await api.status("fraud")).get("conditions", ())
    return next((one for one in found if one["type"] == "AutoscalerActive" and one["reason"] == reason), None)


async def test_an_autoscaler_is_written_once_and_follows_the_spec() -> None:
    async with control_plane() as cluster, api_of(cluster) as api, operator(cluster) as running:
        await api.create("fraud", model=MODEL, autoscaling=BUSY)
        body = await eventually(lambda: scaled(api, ["Resource", "Resource", "Pods"]), "the autoscaler is there")
        assert [policy["value"] for policy in body["spec"]["behavior"]["scaleUp"]["policies"]] == [2, 4]
        assert body["spec"]["behavior"]["scaleDown"]["selectPolicy"] == "Disabled"
        assert await eventually(lambda: condition(api, "FailedGetResourceMetric"), "status tells of missing metrics")
        assert (await running.requests())[("apply", "HorizontalPodAutoscaler")] == 1

        revision = (await api.status("fraud"))["stableRevision"]
        gone = dict.fromkeys(("targetCPUUtilizationPercentage", "targetMemoryUtilizationPercentage", "behavior"))
        await api.patch(RESOURCE, "fraud", {"spec": {"autoscaling": gone}})
        body = await eventually(lambda: scaled(api, ["Pods"]), "requests alone count")
        assert "tolerance" not in (body["spec"].get("behavior") or {}).get("scaleUp", {})
        found = await eventually(lambda: condition(api, "FailedGetPodsMetric"), "status names the missing API")
        assert "no custom metrics API" in found["message"]
        assert "prometheus-adapter" in found["message"]
        assert (await api.status("fraud"))["stableRevision"] == revision
        assert (await running.requests())[("apply", "HorizontalPodAutoscaler")] == 2

    async with control_plane() as cluster, api_of(cluster) as api:
        async with operator(cluster):
            await api.create("fraud", model=MODEL, autoscaling=BUSY)
            await eventually(lambda: condition(api, "FailedGetResourceMetric"), "the autoscaler is at work")
        async with operator(cluster) as again:
            await eventually(lambda: again.knows(1), "the second operator has observed it")
            assert (await again.requests())[("apply", "HorizontalPodAutoscaler")] == 0


async def test_an_autoscaler_without_a_target_is_as_before() -> None:
    world = World()
    key = await live(world, {"rollingUpdate": {}}, autoscaling={"minReplicas": 2, "maxReplicas": 4})
    (found,) = world.cluster.of_kind("HorizontalPodAutoscaler")
    (metric,) = found["spec"]["metrics"]
    assert metric["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
    assert world.status(key)["phase"] == "Healthy"
