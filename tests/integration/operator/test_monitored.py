"""What the Prometheus operator reads comes, changes and goes with the spec; a cluster without it is told of."""

from typing import Any

from operator_in_cluster import api_of, control_plane, operator
from rollout_actions import live
from rollout_world import World
from waiting import eventually

from model_operator.clients.kinds import RESOURCE

PLURALS = {"ServiceMonitor": "servicemonitors", "PrometheusRule": "prometheusrules"}


def definition(kind: str, plural: str) -> dict[str, Any]:
    group, anything = "monitoring.coreos.com", {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything}}}
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def monitored(status: Any) -> tuple[str, str] | None:
    found = {one["type"]: (one["status"], one["message"]) for one in status["conditions"]}
    return found.get("MonitoringReady")


async def test_a_cluster_without_the_prometheus_operator_is_told_of_and_holds_nothing() -> None:
    world = World()
    world.cluster.missing_kinds = {"ServiceMonitor", "PrometheusRule"}
    key = await live(world, {"rollingUpdate": {}}, replicas=1, monitoring={"serviceMonitor": True, "alerts": True})
    told = "the cluster has no PrometheusRule and no ServiceMonitor: install the Prometheus operator"
    assert monitored(world.status(key)) == ("False", told)
    assert world.status(key)["phase"] == "Healthy"


async def test_it_comes_with_its_kinds_and_goes_with_the_spec() -> None:
    async with control_plane() as cluster, api_of(cluster) as api, operator(cluster):
        await api.create("fraud", model={"storageUri": "s3://models/fraud/1"}, monitoring={"serviceMonitor": True})
        for kind, plural in PLURALS.items():
            await api.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition(kind, plural))

        async def has(*wanted: str) -> bool:
            return [f"{kind} {name}" for kind in PLURALS for name in await api.names(kind)] == list(wanted)

        await eventually(lambda: has("ServiceMonitor fraud"), "the ServiceMonitor is there")
        await api.patch(RESOURCE, "fraud", {"spec": {"monitoring": {"serviceMonitor": False, "alerts": True}}})
        await eventually(lambda: has("PrometheusRule fraud"), "the one goes and the other comes")
