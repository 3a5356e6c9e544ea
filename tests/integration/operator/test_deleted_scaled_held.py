"""What users do to a model besides a new version: deletion, adoption, another number of pods, a hold."""

from typing import Any

import pytest
from rollout_actions import GOOD, NEXT, SLOW, annotate, at_phase, canary, live, replicas_of, spec, storage
from rollout_world import World

from model_operator.api.names import REVISION
from model_operator.api.resource import ObjectKey
from model_operator.api.version import KIND
from model_operator.testing import is_pod_ready

HALF = canary(routing=False, steps=[{"setWeight": 50}, {"pause": {}}])


async def half_way(world: World, replicas: int = 2) -> ObjectKey:
    """A canary with half of the pods, which waits for a user."""
    key = await live(world, HALF, replicas=replicas)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    return key


def orphan(world: World, key: ObjectKey) -> dict[str, Any]:
    """Delete the resource alone; return it."""
    return world.cluster.objects.pop((KIND, *key))


def events(world: World) -> set[str]:
    return {event["reason"] for event in world.cluster.events}


async def test_objects_of_a_resource_that_is_deleted_as_an_orphan_are_adopted_and_serve_on() -> None:
    world = World()
    key = await live(world, HALF)
    resource = orphan(world, key)
    for body in [*world.cluster.of_kind("Deployment"), *world.cluster.of_kind("Service")]:
        world.cluster.overwrite(
            body["kind"],
            key._replace(name=body["metadata"]["name"]),
            lambda one: one["metadata"].pop("ownerReferences"),
        )
    world.sync()
    pods = {pod["metadata"]["uid"] for pod in world.cluster.of_kind("Pod")}
    world.cluster.create(key.name, resource["spec"])
    await world.run(key)
    assert world.status(key)["phase"] == "Healthy"
    assert {pod["metadata"]["uid"] for pod in world.cluster.of_kind("Pod")} == pods
    (deployment,) = world.cluster.of_kind("Deployment")
    (owner,) = deployment["metadata"]["ownerReferences"]
    assert owner["uid"] == world.cluster.get(KIND, key)["metadata"]["uid"]
    assert not events(world) & {"ApplyFailed", "DriftCorrected"}


async def test_a_resource_that_is_deleted_in_a_rollout_and_applied_again_starts_anew() -> None:
    world = World()
    key = await half_way(world)
    resource = orphan(world, key)
    world.sync()
    world.cluster.create(key.name, resource["spec"])
    await world.turn(key, 2)
    # The garbage collector comes later than the new resource.
    world.cluster.collect(resource["metadata"]["uid"])
    await world.run(key)
    status = world.status(key)
    assert (status["phase"], [entry["reason"] for entry in status["history"]]) == ("Healthy", ["FirstRevision"])
    pods = world.cluster.of_kind("Pod")
    assert {pod["metadata"]["labels"][REVISION] for pod in pods} == {status["stableRevision"]}
    assert sum(map(is_pod_ready, pods)) == 2
    assert not events(world) & {"ApplyFailed", "DriftCorrected"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(4, 6, id="more pods"),
        pytest.param(6, 2, id="fewer pods"),
        pytest.param(2, 3, id="one more pod"),
    ],
)
async def test_another_number_of_pods_in_a_rollout_is_shared_by_weight(before: int, after: int) -> None:
    world = World()
    key = await half_way(world, before)
    world.cluster.change(key, lambda body: body["spec"].update(replicas=after))
    fewest = await fewest_ready(world, key)
    sizes = replicas_of(world, key)
    assert sum(sizes.values()) in (after, after + 1)
    assert abs(sizes["stableRevision"] - sizes["canaryRevision"]) <= 1
    assert fewest >= min(before, after)


async def test_another_version_and_another_number_of_pods_at_once_lose_no_capacity() -> None:
    world = World()
    key = await half_way(world, 2)
    world.cluster.change(key, lambda body: body["spec"].update(replicas=4, model={"storageUri": SLOW}))
    assert await fewest_ready(world, key) >= 2


async def test_an_aborted_canary_has_no_pods_however_the_model_is_scaled() -> None:
    world = World()
    key = await half_way(world, 4)
    annotate(world, key, "abort", world.status(key)["canaryRevision"])
    await world.run(key, until=at_phase("Degraded"))
    world.cluster.change(key, lambda body: body["spec"].update(replicas=6))
    await world.run(key)
    assert replicas_of(world, key) == {"stableRevision": 6}


async def test_an_abort_after_a_full_promotion_of_pods_that_never_start_goes_back() -> None:
    world = World()
    key = await live(world, HALF)
    world.cluster.change(key, storage(SLOW))
    await world.run(key, until=lambda w: bool(w.status(key).get("canaryRevision")))
    canary_revision = world.status(key)["canaryRevision"]
    annotate(world, key, "promote-full", canary_revision)
    await world.turn(key, 3)
    annotate(world, key, "abort", canary_revision)
    await world.run(key)
    assert world.status(key)["phase"] == "Degraded"
    assert replicas_of(world, key) == {"stableRevision": 2}


async def test_a_held_model_with_a_new_version_is_not_ready() -> None:
    world = World()
    key = world.cluster.create("fraud", spec(GOOD, HALF, paused=True))
    await world.run(key, until=at_phase("Healthy"))
    world.cluster.change(key, storage(NEXT))
    await world.run(key)
    status = world.status(key)
    conditions = {one["type"]: one["status"] for one in status["conditions"]}
    assert (conditions["Ready"], conditions["Paused"], conditions["Progressing"]) == ("False", "True", "False")
    assert "spec.paused is true" in status["message"]


async def test_without_its_autoscaler_a_model_has_the_pods_of_the_spec() -> None:
    world = World()
    world.cluster.autoscalers_wish = 4
    key = await live(world, HALF, autoscaling={"minReplicas": 1, "maxReplicas": 6})
    assert replicas_of(world, key) == {"stableRevision": 4}
    world.cluster.change(key, lambda body: body["spec"].pop("autoscaling"))
    await world.run(key)
    assert world.cluster.of_kind("HorizontalPodAutoscaler") == []
    assert replicas_of(world, key) == {"stableRevision": 2}


async def fewest_ready(world: World, key: ObjectKey, seconds: int = 40) -> int:
    """Let time pass; return the smallest number of ready pods in it."""
    numbers = []
    for _ in range(seconds):
        await world.turn(key, 1)
        numbers.append(sum(map(is_pod_ready, world.cluster.of_kind("Pod"))))
    return min(numbers)
