"""Every story of a rollout, with the operator killed after each of its writes (see `rollout_world`)."""

import pytest
from rollout_actions import strategy_of
from rollout_scenarios import CASES, SCENARIOS
from rollout_world import World

from model_operator.api.names import REVISION, REVISION_SPEC


@pytest.mark.parametrize(("name", "kind"), CASES, ids=[f"{name} ({kind})" for name, kind in CASES])
async def test_story(name: str, kind: str) -> None:
    world, scenario = World(with_deaths=True), SCENARIOS[name]
    key = await scenario.story(world, strategy_of(kind))

    status = world.status(key)
    assert status["phase"] == scenario.phase, "\n".join(world.log)
    live = world.cluster.get("Deployment", key._replace(name=f"fraud-{status['stableRevision']}"))
    assert scenario.serves in live["metadata"]["annotations"][REVISION_SPEC]
    assert world.cluster.get("Service", key)["spec"]["selector"][REVISION] == status["stableRevision"]
    assert world.deaths >= 7
