"""What a user may write of a route: its parents, its timeouts and its filters."""

from typing import Any

from rollout_actions import GATEWAY, NEXT, at_phase, canary, live, storage
from rollout_world import World

MESH = {"gatewayAPI": {"parentRefs": [{"group": "", "kind": "Service"}]}, "propagationSeconds": 2}
TIMEOUTS = {"request": "30s"}
FILTERS = [{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "x-a", "value": "1"}]}}]


def routed(routing: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A canary that is split by a router."""
    return {"canary": {**canary(routing=False, **more)["canary"], "trafficRouting": routing}}


async def test_a_mesh_splits_the_requests_to_the_front_service() -> None:
    world = World()
    key = await live(world, routed(MESH, steps=[{"setWeight": 20}, {"pause": {}}]))
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    spec = world.cluster.get("HTTPRoute", key)["spec"]
    assert spec["parentRefs"] == [{"group": "", "kind": "Service", "namespace": key.namespace, "name": key.name}]
    assert [backend["weight"] for backend in spec["rules"][-1]["backendRefs"]] == [80, 20]
    assert world.status(key)["url"] == f"http://{key.name}.{key.namespace}.svc"


async def test_timeouts_and_filters_change_the_route_and_make_no_revision() -> None:
    world = World()
    key = await live(world, routed(GATEWAY))
    revision = world.status(key)["stableRevision"]
    deployments = [body["metadata"]["generation"] for body in world.cluster.of_kind("Deployment")]

    def add_options(body: Any) -> None:
        routing = body["spec"]["strategy"]["canary"]["trafficRouting"]["gatewayAPI"]
        routing |= {"timeouts": TIMEOUTS, "filters": FILTERS}

    world.cluster.change(key, add_options)
    await world.run(key)
    (rule,) = world.cluster.get("HTTPRoute", key)["spec"]["rules"]
    assert (rule["timeouts"], rule["filters"]) == (TIMEOUTS, FILTERS)
    assert (world.status(key)["stableRevision"], world.status(key)["phase"]) == (revision, "Healthy")
    assert [body["metadata"]["generation"] for body in world.cluster.of_kind("Deployment")] == deployments
