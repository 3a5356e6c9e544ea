"""A change to HTTPS: until the old revision is gone both are reached, each at its own port."""

from typing import Any

from rollout_actions import at_phase, canary, live
from rollout_world import World

from model_operator.api.resource import ObjectKey


def ports(world: World, name: str) -> dict[str, int]:
    spec = world.cluster.get("Service", ObjectKey("default", name))["spec"]
    return {port["name"]: port["port"] for port in spec["ports"]}


async def test_clients_of_the_old_revision_are_not_cut_off() -> None:
    world = World()
    key = await live(world, canary(routing=False, steps=[{"setWeight": 50}, {"pause": {}}]))
    assert ports(world, key.name) == {"http": 80}

    def to_https(body: Any) -> None:
        body["spec"]["server"] = {**body["spec"].get("server", {}), "tls": {"secretName": "fraud-tls"}}

    world.cluster.change(key, to_https)
    await world.run(key, until=at_phase("Paused"))
    assert ports(world, key.name) == {"http": 80, "https": 443}
