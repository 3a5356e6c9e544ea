"""Whatever people and clusters do, in whatever order: the invariants hold, and it ends well once they let go."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rollout_actions import BAD, BROKEN, GOOD, NEXT, THIRD, annotate, spec, storage, strategy_of
from rollout_world import World

from model_operator.api.resource import ObjectKey
from model_operator.testing import Behaviour

Action = Callable[[World, ObjectKey], None]


def token(name: str) -> Action:
    def act(world: World, key: ObjectKey) -> None:
        status = world.status(key)
        revision = status.get("canaryRevision") or status.get("abortedRevision") or status.get("stableRevision", "x")
        annotate(world, key, name, f"{revision}@{world.cluster.version}")

    return act


def promote(world: World, key: ObjectKey) -> None:
    annotate(world, key, "promote", world.status(key).get("canaryRevision", "x"))


def change(patch: Callable[[dict[str, Any]], None]) -> Action:
    return lambda world, key: world.cluster.change(key, patch)


def scale(replicas: int) -> Action:
    return change(lambda body: body["spec"].update(replicas=replicas))


def behave(uri: str, behaviour: Behaviour) -> Action:
    def act(world: World, key: ObjectKey) -> None:
        world.cluster.behaviours[uri] = behaviour

    return act


def toggle_router(world: World, key: ObjectKey) -> None:
    if world.cluster.missing_kinds:
        world.cluster.missing_kinds.clear()
    else:
        world.cluster.missing_kinds.add("HTTPRoute")
        world.cluster.objects.pop(("HTTPRoute", *key), None)


def toggle_gateway(world: World, key: ObjectKey) -> None:
    world.cluster.gateways_accept = not world.cluster.gateways_accept


def die(world: World, key: ObjectKey) -> None:
    world.start_operator()


CRASHING = Behaviour(ready_after=None, termination={"reason": "Oops", "message": "boom"}, restarts=1)
ACTIONS: dict[str, Action] = {
    **{f"model {uri}": change(storage(uri)) for uri in (GOOD, NEXT, THIRD, BAD)},
    **{name: token(name) for name in ("abort", "retry", "promote-full")},
    "promote": promote,
    **{f"scale to {n}": scale(n) for n in (1, 2, 5)},
    "pause": change(lambda body: body["spec"].update(paused=True)),
    "resume": change(lambda body: body["spec"].update(paused=False)),
    "the next model breaks": behave(NEXT, CRASHING),
    "the next model heals": behave(NEXT, Behaviour()),
    "the operator dies": die,
    "the router comes or goes": toggle_router,
    "the gateway changes its mind": toggle_gateway,
}
STORIES = st.lists(st.tuples(st.sampled_from(sorted(ACTIONS)), st.integers(0, 8)), max_size=10)


@pytest.mark.parametrize("kind", ["ratio", "gateway", "blueGreen", "rollingUpdate"])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(story=STORIES)
def test_any_story_ends_well(kind: str, story: list[tuple[str, int]]) -> None:
    asyncio.run(play(kind, story))


async def play(kind: str, story: list[tuple[str, int]]) -> None:
    world = World()
    world.cluster.behaviours[BAD] = BROKEN
    key = world.cluster.create("fraud", spec(GOOD, strategy_of(kind)))
    await world.run(key)
    for name, turns in story:
        ACTIONS[name](world, key)
        await world.turn(key, turns)

    world.cluster.behaviours[NEXT] = Behaviour()
    world.cluster.missing_kinds.clear()
    world.cluster.gateways_accept = True
    world.cluster.change(key, lambda body: body["spec"].update(paused=False))
    await world.run(key)
    if world.status(key)["phase"] == "Paused":  # on a gateway that refused: a person has another look
        promote(world, key)
        await world.run(key)

    status = world.status(key)
    wanted = world.cluster.get("ModelDeployment", key)["spec"]["replicas"]
    serving = world.cluster.get("Deployment", key._replace(name=f"fraud-{status['stableRevision']}"))
    told = "\n".join([str(story), *world.log[-30:]])
    assert status["phase"] in ("Healthy", "Degraded"), told
    assert serving["status"]["availableReplicas"] == wanted, told
    assert sum(pod["metadata"]["name"].startswith("fraud") for pod in world.cluster.of_kind("Pod")) == wanted, told
    if status["phase"] == "Degraded":
        assert status["abortedRevision"], told
