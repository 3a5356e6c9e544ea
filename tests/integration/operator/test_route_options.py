"""What a user may write of a route: its parents, its timeouts and its filters."""

from typing import Any

from rollout_actions import GATEWAY, NEXT, annotate, at_phase, canary, live, storage
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


async def test_each_backend_is_known_to_the_router_two_seconds_before_its_first_request() -> None:
    world = World()
    steps = [{"setWeight": 20}, {"setWeight": 100}, {"pause": {}}]
    key = await live(world, routed(GATEWAY, steps=steps))
    world.cluster.change(key, storage(NEXT))
    known: dict[str, int] = {}
    served: dict[str, int] = {}
    warm: set[tuple[str, int]] = set()
    for second in range(60):
        await world.turn(key, 1)
        rules = world.cluster.get("HTTPRoute", key)["spec"]["rules"]
        for name in {ref["name"] for rule in rules for ref in rule["backendRefs"] if ref["weight"]}:
            known.setdefault(name, second)
        for name in {ref["name"] for ref in rules[-1]["backendRefs"] if ref["weight"]}:
            served.setdefault(name, second)
        warm |= {(rule["backendRefs"][0]["name"], rules[-1]["backendRefs"][1]["weight"]) for rule in rules[:-1]}
        if at_phase("Paused")(world):
            break
    stable, canary = (f"{key.name}-{world.status(key)[name]}" for name in ("stableRevision", "canaryRevision"))
    assert served[canary] - known[canary] >= 2
    assert warm == {(canary, 0), (stable, 100)}, "stable stays known while the canary has every request"
    annotate(world, key, "promote", world.status(key)["canaryRevision"])
    await world.run(key)
    assert len(world.cluster.get("HTTPRoute", key)["spec"]["rules"]) == 1, "the rule is gone with the rollout"
