"""Every story of a rollout, and every story again with the operator killed after each of its writes.

Death before a write leaves the cluster as death after the write before it, so all points are covered.

However it was interrupted, it has to end where the undisturbed story ends, and no invariant may break on the way.
"""

from collections.abc import Mapping
from typing import Any

import pytest
from rollout_scenarios import CASES, SCENARIOS, strategy_of
from rollout_world import World

from model_operator.api.names import REVISION_SPEC

IDS = [f"{name} ({kind})" for name, kind in CASES]


async def play(name: str, kind: str, **death: Any) -> World:
    world = World(**death)
    key = await SCENARIOS[name].story(world, strategy_of(kind))
    world.key = key
    return world


def final(world: World) -> Mapping[str, Any]:
    """What counts at the end: who serves, at which size, and what is told; not when."""
    status = world.status(world.key)
    deployments = {body["metadata"]["name"]: body["spec"]["replicas"] for body in world.cluster.of_kind("Deployment")}
    routes = [body["spec"]["rules"] for body in world.cluster.of_kind("HTTPRoute")]
    front = world.cluster.get("Service", world.key)["spec"]["selector"]
    told = {
        k: status.get(k) for k in ("phase", "stableRevision", "canaryRevision", "abortedRevision", "previousRevision")
    }
    history = [(entry["revision"], entry["result"]) for entry in status["history"]]
    return {**told, "deployments": deployments, "routes": routes, "front": front, "history": history}


@pytest.mark.parametrize(("name", "kind"), CASES, ids=IDS)
async def test_story(name: str, kind: str) -> None:
    world = await play(name, kind)
    scenario, status = SCENARIOS[name], world.status(world.key)
    assert status["phase"] == scenario.phase, "\n".join(world.log)
    service = world.cluster.get("Service", world.key._replace(name=f"fraud-{status['stableRevision']}"))
    assert scenario.serves in service["metadata"]["annotations"][REVISION_SPEC]
    assert (
        world.cluster.get("Service", world.key)["spec"]["selector"]["modeldeploy.dev/revision"]
        == (status["stableRevision"])
    )


@pytest.mark.parametrize(("name", "kind"), CASES, ids=IDS)
async def test_story_with_sudden_deaths(name: str, kind: str) -> None:
    undisturbed = await play(name, kind)
    for number in range(undisturbed.writes):
        world = await play(name, kind, kill_at=number)
        assert world.kills == 1, f"the operator was not killed at write {number}"
        assert final(world) == final(undisturbed), f"killed after write {number}"
