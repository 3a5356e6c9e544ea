"""Scenarios of what users request of a rollout: promotion, abort, retry, undo, pauses."""

from collections.abc import Callable
from typing import Any

from rollout_actions import GOOD, NEXT, Scenario, annotate, at_phase, at_weight, live, storage
from rollout_world import World

from model_operator.api.resource import ObjectKey


async def abort_by_hand(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_weight(25))
    annotate(world, key, "abort", world.status(key)["canaryRevision"])
    await world.run(key)
    return key


async def retry_after_abort(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await abort_by_hand(world, strategy)
    aborted = world.status(key)["abortedRevision"]
    annotate(world, key, "retry", aborted)
    await world.run(key)
    return key


async def stale_token(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    annotate(world, key, "abort", "bcdfghjk")
    annotate(world, key, "promote", "bcdfghjk@1")
    world.cluster.change(key, storage(NEXT))
    await world.run(key)
    return key


async def abort_beats_promote(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_weight(5))
    revision = world.status(key)["canaryRevision"]

    def both(body: dict[str, Any]) -> None:
        tokens = {"modeldeploy.dev/promote-full": revision, "modeldeploy.dev/abort": revision}
        body["metadata"]["annotations"].update(tokens)

    world.cluster.change(key, both)
    await world.run(key)
    return key


async def a_users_gate(world: World, strategy: dict[str, Any]) -> ObjectKey:
    strategy["canary"]["steps"] = [{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))

    def paused_at(index: int) -> Callable[[World], bool]:
        return lambda w: at_phase("Paused")(w) and w.status(key)["currentStepIndex"] == index

    for index in (1, 3):
        await world.run(key, until=paused_at(index))
        annotate(world, key, "promote", f"{world.status(key)['canaryRevision']}@{index}")
    await world.run(key)
    return key


async def promote_fully(world: World, strategy: dict[str, Any]) -> ObjectKey:
    strategy["canary"]["steps"] = [{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    annotate(world, key, "promote-full", world.status(key)["canaryRevision"])
    await world.run(key)
    return key


async def _ab_test(world: World, strategy: dict[str, Any]) -> ObjectKey:
    """A test whose users have been split, each with a rule that keeps them where they are."""
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=lambda w: w.status(key).get("currentStepIndex") == 1)
    assert len(world.cluster.get("HTTPRoute", key)["spec"]["rules"]) == 3
    return key


async def end_ab_test(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await _ab_test(world, strategy)
    annotate(world, key, "promote-full", world.status(key)["canaryRevision"])
    await world.run(key)
    assert len(world.cluster.get("HTTPRoute", key)["spec"]["rules"]) == 1
    return key


async def revert_ab_test(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await _ab_test(world, strategy)
    world.cluster.change(key, storage(GOOD))
    await world.run(key)
    assert len(world.cluster.get("HTTPRoute", key)["spec"]["rules"]) == 1
    return key


async def pause_expires(world: World, strategy: dict[str, Any]) -> ObjectKey:
    strategy["canary"].update(steps=[{"setWeight": 25}, {"pause": {}}], maxPauseDuration="30s")
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key)
    return key


async def undo(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    first = world.status(key)["stableRevision"]
    world.cluster.change(key, storage(NEXT))
    await world.run(key)
    annotate(world, key, "undo", first)
    await world.run(key)
    return key


async def paused_by_the_spec(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_weight(25))
    world.cluster.change(key, lambda body: body["spec"].update(paused=True))
    await world.run(key)
    assert world.status(key)["phase"] == "Paused"
    world.cluster.change(key, lambda body: body["spec"].update(paused=False))
    await world.run(key)
    return key


REQUESTS: dict[str, Scenario] = {
    "a user aborts": Scenario(abort_by_hand, "Degraded", GOOD),
    "a user retries what was aborted": Scenario(retry_after_abort, "Healthy", NEXT),
    "a token for another revision does nothing": Scenario(stale_token, "Healthy", NEXT),
    "of abort and promote in one patch abort wins": Scenario(abort_beats_promote, "Degraded", GOOD),
    "a user opens each gate": Scenario(a_users_gate, "Healthy", NEXT),
    "a user skips the rest of the steps": Scenario(promote_fully, "Healthy", NEXT),
    "a user ends an A/B test": Scenario(end_ab_test, "Healthy", NEXT, ("abTest",)),
    "an A/B test is reverted": Scenario(revert_ab_test, "Healthy", GOOD, ("abTest",)),
    "a pause that nobody ends goes back": Scenario(pause_expires, "Degraded", GOOD),
    "undo brings the old model back": Scenario(undo, "Healthy", GOOD),
    "spec.paused holds and lets go": Scenario(paused_by_the_spec, "Healthy", NEXT),
}
