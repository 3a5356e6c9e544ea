"""Gates hold a rollout until they open; notifications tell of it. Whoever dies meanwhile."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from rollout_actions import GOOD, NEXT, at_phase, live, storage
from rollout_world import World
from waiting import until

from model_operator.api.resource import ObjectKey

STEPS = [{"setWeight": 25}, {"setWeight": 50}]


async def rollout(*, with_deaths: bool = False, **hooks: Any) -> tuple[World, ObjectKey]:
    """A canary on its way, under these hooks."""
    world = World(with_deaths=with_deaths)
    key = await live(world, {"canary": {"steps": STEPS, "maxSurge": 1}})
    world.cluster.change(key, lambda body: body["spec"].update(hooks=hooks))
    await world.run(key)
    world.cluster.change(key, storage(NEXT))
    await world.run(key)
    return world, key


async def ask(world: World, key: ObjectKey) -> Any:
    """Let so much time pass that the gates are asked once more."""
    world.clock.advance(timedelta(seconds=11))
    await world.run(key)
    return world.status(key)


def gate(*before: str) -> Any:
    return {"name": "window", "url": "http://window.example", "before": list(before)}


async def test_a_gate_before_the_promotion_holds_the_rollout_at_its_last_step() -> None:
    world, key = await rollout(gates=[gate("Promotion")])
    assert world.status(key)["phase"] == "Paused"
    status = await ask(world, key)
    assert [pause["reason"] for pause in status["pauseConditions"]] == ["Gate"]
    assert status["message"].endswith("paused: gate window: not before eight")
    assert status["weights"]["applied"] == 50
    world.hooks.is_open = True
    await ask(world, key)
    assert at_phase("Healthy")(world)
    assert world.hooks.asked[0]["weight"] == 50


async def test_a_gate_before_steps_is_asked_at_each_but_the_first() -> None:
    world, key = await rollout(gates=[gate("Step")])
    assert world.status(key)["weights"]["applied"] == 25
    world.hooks.is_open = True
    await ask(world, key)
    assert at_phase("Healthy")(world)
    assert {asked["step"] for asked in world.hooks.asked} == {"1/2"}


async def test_an_answer_is_good_for_one_point_only() -> None:
    world, key = await rollout(gates=[gate("Step", "Promotion")])
    world.hooks.asked.clear()
    world.hooks.is_open = True
    await ask(world, key)
    assert at_phase("Healthy")(world)
    assert [asked["weight"] for asked in world.hooks.asked] == [25, 50]


async def test_an_operator_that_dies_at_a_gate_asks_again() -> None:
    world, key = await rollout(gates=[gate("Promotion")])
    await ask(world, key)
    world.start_operator()
    world.hooks.is_open = True
    await ask(world, key)
    assert at_phase("Healthy")(world)


async def test_an_undo_passes_every_gate() -> None:
    world, key = await rollout(gates=[gate("Step", "Promotion")])
    world.cluster.change(key, storage(GOOD))
    await world.run(key)
    assert at_phase("Healthy")(world)


async def test_a_gate_that_is_taken_out_of_the_spec_holds_nobody() -> None:
    world, key = await rollout(gates=[gate("Promotion")])
    world.cluster.change(key, lambda body: body["spec"].update(hooks={}))
    await world.run(key)
    assert at_phase("Healthy")(world)


@pytest.mark.parametrize("before", [("Promotion",), ("Step", "Promotion")])
async def test_the_end_is_the_same_whenever_the_operator_dies(before: tuple[str, ...]) -> None:
    world, key = await rollout(with_deaths=True, gates=[gate(*before)])
    world.hooks.is_open = True
    for _ in before:
        await ask(world, key)
    assert at_phase("Healthy")(world)
    assert world.deaths > 5


async def test_hooks_are_told_of_each_phase_once() -> None:
    world, key = await rollout(notifications=[{"name": "chat", "url": "http://chat.example", "phases": ["Healthy"]}])
    sending = asyncio.create_task(world.notifier.run())
    await until(lambda: world.hooks.told)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    (told,) = world.hooks.told
    assert (told["phase"], told["canaryRevision"]) == ("Healthy", "")
    assert key.name == told["name"]
