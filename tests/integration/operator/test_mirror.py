"""What canary and stable answer to the same requests becomes evidence in status, whoever restarts meanwhile."""

import copy
from typing import Any

import pytest
from judged_rollout import SHADOW, Rollout, answer, mirrored, rollout
from rollout_actions import at_phase
from rollout_world import World

from model_operator.api.values import replace
from model_operator.errors import ProviderError


def metric_of(found: Rollout) -> Any:
    return found.status["analysis"]["metrics"][0]


async def test_a_canary_that_agrees_goes_on() -> None:
    canary = await mirrored()
    assert canary.status["weights"]["applied"] == 0
    assert "no mirrored requests yet: setMirrorRoute" in metric_of(canary)["message"]
    await answer(canary, 200)
    assert (metric_of(canary)["verdict"], metric_of(canary)["value"]) == ("Pass", 1.0)
    await canary.world.run(canary.key)
    assert at_phase("Healthy")(canary.world)
    assert canary.status["stableRevision"] == canary.canary


async def test_one_that_does_not_goes_back_without_having_had_a_request() -> None:
    canary = await mirrored()
    await answer(canary, 100, differing=20)
    await canary.world.run(canary.key)
    assert at_phase("Degraded")(canary.world)
    assert canary.status["rollback"]["reason"] == "AnalysisFailed"
    assert "shadow-agreement: 80 of 100 mirrored requests agree (80.00%)" in canary.status["rollback"]["message"]
    assert canary.status["stableRevision"] == canary.stable


async def test_what_was_answered_before_an_operator_began_is_no_evidence() -> None:
    canary = await mirrored()
    await answer(canary, 40, differing=1)
    before = metric_of(canary)
    assert before["mirrored"] == 40
    canary.world.start_operator()
    await canary.serve(stable=(0, 0), canary=(0, 0))
    assert metric_of(canary)["mirrored"] == 40, "what was known is known, and nothing is counted twice"
    await answer(canary, 10)
    assert metric_of(canary)["mirrored"] == 50


async def test_pods_that_do_not_tell_hold_the_rollout() -> None:
    canary = await mirrored()
    canary.world.predictions.told[canary.stable] = ProviderError("10.0.0.1:8089 serves no predictions")
    await canary.serve(stable=(0, 0), canary=(0, 0))
    unhealthy = next(c for c in canary.status["conditions"] if c["type"] == "AnalysisHealthy")
    assert (unhealthy["status"], unhealthy["reason"]) == ("False", "ProviderError")
    assert "10.0.0.1:8089 serves no predictions" in unhealthy["message"]
    await canary.serve(seconds=601, stable=(0, 0), canary=(0, 0))
    assert canary.status["pauseConditions"][0]["reason"] == "ProviderUnavailable"
    canary.world.predictions.told[canary.stable] = []
    await answer(canary, 10)
    assert canary.status["phase"] == "Progressing"


async def test_busy_pods_are_asked_to_keep_fewer_requests() -> None:
    canary = await mirrored()
    await answer(canary, 3000)
    canary.world.predictions.asked.clear()
    await answer(canary, 0)
    assert {question.every for _, question, _ in canary.world.predictions.asked} == {8}


async def test_each_revision_is_asked_with_a_key_of_its_own_servers() -> None:
    canary = await mirrored()
    canary.world.cluster.change(canary.key, lambda body: body["spec"].update(server={"auth": {"secretName": "keys"}}))
    superseded = canary.canary

    def is_mirrored(world: World) -> bool:
        status = world.status(canary.key)
        return status.get("canaryRevision", superseded) != superseded and status.get("currentStepIndex") == 1

    await canary.world.run(canary.key, until=is_mirrored)
    canary.world.predictions.asked.clear()
    await canary.serve(stable=(0, 0), canary=(0, 0))
    keys = {canary.stable in address: key for address, _, key in canary.world.predictions.asked}
    assert keys == {True: "", False: "key of keys"}


async def test_pods_of_before_the_tokens_are_asked_as_before_and_restarted_by_nobody() -> None:
    canary = await mirrored()
    world, superseded = canary.world, canary.canary
    pods = {pod["metadata"]["uid"] for pod in world.cluster.of_kind("Pod")}
    world.settings = replace(world.settings, token_secret=b"x" * 32, token_secret_id="1")
    world.start_operator()
    await world.run(canary.key, until=lambda world: world.status(canary.key).get("currentStepIndex") == 1)
    assert pods == {pod["metadata"]["uid"] for pod in world.cluster.of_kind("Pod")}
    world.cluster.change(canary.key, lambda body: body["spec"].update(server={"workers": 2}))

    def is_mirrored(world: World) -> bool:
        status = world.status(canary.key)
        return status.get("canaryRevision", superseded) != superseded and status.get("currentStepIndex") == 1

    await world.run(canary.key, until=is_mirrored)
    world.predictions.asked.clear()
    await canary.serve(stable=(0, 0), canary=(0, 0))
    keys = {canary.stable in address: key for address, _, key in world.predictions.asked}
    assert keys == {True: "", False: f"token of {canary.key.name}"}


@pytest.mark.parametrize(
    ("percentage", "pauses"),
    [
        pytest.param(0, ["RouteNotProgrammed"], id="half of the requests at a weight of 10 % are wrong"),
        pytest.param(80, [], id="unless copies may be among them"),
    ],
)
async def test_copies_do_not_make_a_split_wrong(percentage: int, pauses: list[str]) -> None:
    strategy = copy.deepcopy(SHADOW)
    strategy["canary"]["steps"] = [{"setMirrorRoute": {"percentage": percentage}}, {"setWeight": 10}, {"analysis": {}}]
    canary = await rollout(strategy)
    for _ in range(4):
        await canary.serve(seconds=60, stable=(0, 0), canary=(0, 0))
    assert [pause["reason"] for pause in canary.status.get("pauseConditions", ())] == pauses
