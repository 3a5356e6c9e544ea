"""Scenarios of new versions: good, broken, changed and reverted ones."""

from typing import Any

from rollout_actions import (
    BAD,
    BROKEN,
    GOOD,
    NEXT,
    SLOW,
    THIRD,
    Scenario,
    Story,
    at_phase,
    at_weight,
    live,
    spec,
    storage,
)
from rollout_world import World

from model_operator.api.resource import ObjectKey
from model_operator.testing import Behaviour


async def good(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key)
    return key


async def fast_bad(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(BAD))
    await world.run(key)
    return key


async def slow_bad(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(SLOW))
    await world.run(key)
    return key


async def bad_image(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.behaviours[BAD] = Behaviour(ready_after=None, waiting="ImagePullBackOff")
    world.cluster.change(key, storage(BAD))
    await world.run(key)
    return key


async def crash_at_half(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_weight(50))
    world.cluster.behaviours[NEXT] = Behaviour(
        ready_after=None, termination={"reason": "Oops", "message": "boom"}, restarts=5
    )
    world.cluster.fail_pods(world.status(key)["canaryRevision"], world.cluster.behaviours[NEXT])
    await world.run(key)
    return key


async def endpoints_vanish_and_return(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_weight(25))
    revision = world.status(key)["canaryRevision"]
    world.cluster.behaviours[NEXT] = Behaviour(ready_after=None)
    world.cluster.fail_pods(revision, world.cluster.behaviours[NEXT])
    await world.run(key, until=at_weight(0))
    world.cluster.behaviours[NEXT] = Behaviour()
    await world.run(key)
    return key


def change_at(percent: int) -> Story:
    async def story(world: World, strategy: dict[str, Any]) -> ObjectKey:
        key = await live(world, strategy)
        world.cluster.change(key, storage(NEXT))
        await world.run(key, until=at_weight(percent))
        world.cluster.change(key, storage(THIRD))
        await world.run(key)
        return key

    return story


def revert_at(percent: int) -> Story:
    async def story(world: World, strategy: dict[str, Any]) -> ObjectKey:
        key = await live(world, strategy)
        world.cluster.change(key, storage(NEXT))
        await world.run(key, until=at_weight(percent))
        world.cluster.change(key, storage(GOOD))
        await world.run(key)
        return key

    return story


async def fixed_while_promoting(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(SLOW))
    await world.run(key, until=at_phase("Promoting", "Progressing"))
    world.cluster.change(key, storage(NEXT))
    await world.run(key, seconds=30)
    return key


async def two_changes_at_once(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    world.cluster.change(key, storage(THIRD))
    await world.run(key)
    return key


async def steps_change(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_weight(25))
    steps = [{"setWeight": 10}, {"setWeight": 40}, {"pause": {"duration": "5s"}}]
    world.cluster.change(key, lambda body: body["spec"]["strategy"]["canary"].update(steps=steps))
    await world.run(key)
    return key


async def broken_stable_is_rescued(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.behaviours[GOOD] = Behaviour(
        ready_after=None, termination={"reason": "X", "message": "y"}, restarts=9
    )
    world.cluster.fail_pods(world.status(key)["stableRevision"], world.cluster.behaviours[GOOD])
    await world.run(key, until=at_phase("Degraded"))
    world.cluster.change(key, storage(NEXT))
    await world.run(key)
    return key


async def born_broken_then_fixed(world: World, strategy: dict[str, Any]) -> ObjectKey:
    world.cluster.behaviours[BAD] = BROKEN
    key = world.cluster.create("fraud", spec(BAD, strategy))
    await world.run(key, until=at_phase("Degraded"))
    world.cluster.change(key, storage(GOOD))
    await world.run(key)
    return key


VERSIONS: dict[str, Scenario] = {
    "a good model goes live": Scenario(good, "Healthy", NEXT, ("ratio", "gateway", "blueGreen", "rollingUpdate")),
    "a broken artifact goes back at once": Scenario(
        fast_bad, "Degraded", GOOD, ("ratio", "gateway", "blueGreen", "rollingUpdate")
    ),
    "a model that never gets ready misses the deadline": Scenario(slow_bad, "Degraded", GOOD),
    "an image that cannot be pulled goes back": Scenario(bad_image, "Degraded", GOOD),
    "a crash at half the traffic goes back": Scenario(crash_at_half, "Degraded", GOOD),
    "lost endpoints lose their weight and get it again": Scenario(endpoints_vanish_and_return, "Healthy", NEXT),
    **{f"a third model at {p} % starts over": Scenario(change_at(p), "Healthy", THIRD) for p in (0, 5, 25, 50)},
    **{f"a revert at {p} % ends healthy": Scenario(revert_at(p), "Healthy", GOOD) for p in (0, 5, 25, 50)},
    "a revert at 100 % ends healthy": Scenario(revert_at(100), "Healthy", GOOD, ("gateway",)),
    "a model that hangs is fixed by the next one": Scenario(
        fixed_while_promoting, "Healthy", NEXT, ("ratio", "gateway", "blueGreen", "rollingUpdate")
    ),
    "of two changes the last one goes live": Scenario(two_changes_at_once, "Healthy", THIRD),
    "changed steps go on where they are": Scenario(steps_change, "Healthy", NEXT),
    "a broken stable does not block its fix": Scenario(broken_stable_is_rescued, "Healthy", NEXT),
    "a model born broken is fixed by a new one": Scenario(born_broken_then_fixed, "Healthy", GOOD),
}
