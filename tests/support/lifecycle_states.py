"""ModelDeployments in every state, as the engine leaves them in a world of virtual time."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from rollout_actions import BAD, BROKEN, NEXT, at_phase, canary, fall_asleep, live, sleeper, spec, storage
from rollout_world import World
from version_scenarios import fast_bad, good

from model_operator.api.resource import ObjectKey
from model_operator.errors import ApiError

Body = dict[str, Any]
State = Callable[[], Awaitable[Body]]
GATEWAY = canary(True)
PAUSING = canary(True, steps=[{"setWeight": 20}, {"pause": {}}])


def body_of(world: World, key: ObjectKey) -> Body:
    """Return the resource as the API server would."""
    return dict(world.cluster.get("ModelDeployment", key))


async def created() -> Body:
    world = World()
    return body_of(world, world.cluster.create("fraud", spec(NEXT, GATEWAY)))


async def starting() -> Body:
    world = World()
    key = world.cluster.create("fraud", spec(NEXT, GATEWAY))
    await world.operate(key)
    return body_of(world, key)


async def healthy() -> Body:
    world = World()
    return body_of(world, await live(world, GATEWAY))


async def changed() -> Body:
    """A new spec that the operator has not read."""
    world = World()
    key = await live(world, GATEWAY)
    world.cluster.change(key, storage(NEXT))
    return body_of(world, key)


async def _at(phase: str, strategy: dict[str, Any], uri: str = NEXT) -> Body:
    world = World()
    key = await live(world, strategy)
    world.cluster.change(key, storage(uri))
    await world.run(key, until=at_phase(phase))
    return body_of(world, key)


async def progressing() -> Body:
    return await _at("Progressing", GATEWAY)


async def paused() -> Body:
    return await _at("Paused", PAUSING)


async def promoting() -> Body:
    return await _at("Promoting", GATEWAY)


async def rolling_back() -> Body:
    world = World()
    key = await live(world, PAUSING)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    world.cluster.behaviours[NEXT] = BROKEN
    world.cluster.fail_pods(world.status(key)["canaryRevision"], BROKEN)
    await world.run(key, until=at_phase("RollingBack"))
    return body_of(world, key)


async def promoted() -> Body:
    world = World()
    return body_of(world, await good(world, GATEWAY))


async def rolled_back() -> Body:
    world = World()
    return body_of(world, await fast_bad(world, GATEWAY))


async def first_failed() -> Body:
    world = World()
    world.cluster.behaviours[BAD] = BROKEN
    key = world.cluster.create("fraud", spec(BAD, GATEWAY))
    await world.run(key, until=at_phase("Degraded"))
    return body_of(world, key)


async def held() -> Body:
    """`spec.paused` holds a change."""
    world = World()
    key = await live(world, GATEWAY)

    def change(body: Body) -> None:
        body["spec"]["paused"] = True
        body["spec"]["model"]["storageUri"] = NEXT

    world.cluster.change(key, change)
    await world.run(key)
    return body_of(world, key)


async def scaled_to_zero() -> Body:
    """A change that waits for pods to be wanted."""
    world = World()
    key = await live(world, GATEWAY)

    def change(body: Body) -> None:
        body["spec"]["replicas"] = 0
        body["spec"]["model"]["storageUri"] = NEXT

    world.cluster.change(key, change)
    await world.run(key)
    return body_of(world, key)


async def _asleep() -> tuple[World, ObjectKey]:
    world = World()
    world.activators.is_installed = True
    world.activators.endpoints = ("10.0.0.7",)
    key = world.cluster.create("fraud", sleeper())
    await fall_asleep(world, key)
    return world, key


async def sleeping() -> Body:
    return body_of(*await _asleep())


async def waking() -> Body:
    world, key = await _asleep()
    world.activators.held = 1
    await world.run(key, until=at_phase("Waking"))
    return body_of(world, key)


async def refused() -> Body:
    """The API server refuses an object of the model."""
    world = World()
    key = await live(world, {"rollingUpdate": {}}, replicas=1)

    def refuse(verb: str, body: Any) -> None:
        if body.get("kind") == "Deployment":
            raise ApiError(422, "Invalid", "limits: Invalid value: 1Gig")

    world.cluster.before_write = refuse
    world.cluster.change(key, storage(NEXT))
    for _ in range(2):
        with suppress(ApiError):
            await world.operate(key)
    return body_of(world, key)


async def terminating() -> Body:
    body = await healthy()
    return {**body, "metadata": {**body["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
