"""Which revisions have a Service of their own, and what is remembered where they have none."""

from typing import Any

from rollout_actions import GATEWAY, GOOD, NEXT, at_phase, canary, live, storage
from rollout_world import World

from model_operator.api.names import revision_name
from model_operator.api.resource import ObjectKey

PAUSED = [{"setWeight": 50}, {"pause": {}}]


def services(world: World) -> set[str]:
    return {body["metadata"]["name"] for body in world.cluster.of_kind("Service")}


def own(world: World, key: ObjectKey, side: str = "stable") -> str:
    return revision_name(key.name, world.status(key)[f"{side}Revision"])


async def test_without_a_router_the_front_service_is_the_only_one() -> None:
    world = World()
    key = await live(world, canary(routing=False, steps=PAUSED))
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    assert services(world) == {key.name}


async def test_a_route_refers_to_a_service_of_each_revision() -> None:
    world = World()
    key = await live(world, canary(routing=True, steps=PAUSED))
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    assert services(world) == {key.name, own(world, key), own(world, key, "canary")}


async def test_services_exist_before_a_route_that_is_added_later() -> None:
    world = World()
    key = await live(world, canary(routing=False, steps=PAUSED))
    written: list[tuple[str, str]] = []
    world.cluster.after_write = lambda _, body: written.append((body["kind"], body["metadata"]["name"]))

    def add_router(body: Any) -> None:
        body["spec"]["strategy"]["canary"]["trafficRouting"] = GATEWAY

    world.cluster.change(key, add_router)
    await world.run(key)
    kinds = [kind for kind, _ in written]
    assert kinds.index("Service") < kinds.index("HTTPRoute")
    assert own(world, key) in services(world)


async def test_a_service_that_exists_is_not_taken_away() -> None:
    world = World()
    key = await live(world, canary(routing=True))
    kept = own(world, key)

    def remove_router(body: Any) -> None:
        del body["spec"]["strategy"]["canary"]["trafficRouting"]

    world.cluster.change(key, remove_router)
    await world.run(key)
    assert services(world) == {key.name, kept}


async def test_a_stable_deployment_deleted_during_a_rollout_is_made_again() -> None:
    world = World()
    key = await live(world, canary(routing=False, steps=PAUSED))
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    stable = own(world, key)
    before = world.cluster.get("Deployment", ObjectKey("default", stable))
    deployment = world.cluster.objects.pop(("Deployment", "default", stable))
    world.cluster.collect(deployment["metadata"]["uid"])
    world.start_operator()
    await world.turn(key, 5)
    after = world.cluster.get("Deployment", ObjectKey("default", stable))
    assert after["spec"]["template"] == before["spec"]["template"]
    assert GOOD in str(after["spec"]["template"])


async def test_a_service_monitor_selects_the_service_of_each_revision() -> None:
    """The front Service does not select a canary without weight, whose metrics are the first that matter."""
    world = World()
    steps: list[Any] = [{"pause": {}}]
    key = await live(world, canary(routing=False, steps=steps), monitoring={"serviceMonitor": True})
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    selector = next(iter(world.cluster.of_kind("ServiceMonitor")))["spec"]["selector"]
    (wanted,) = selector["matchExpressions"]
    selected = {
        body["metadata"]["name"]
        for body in world.cluster.of_kind("Service")
        if selector["matchLabels"].items() <= body["metadata"]["labels"].items()
        and wanted["key"] in body["metadata"]["labels"]
    }
    assert selected == {own(world, key), own(world, key, "canary")}
