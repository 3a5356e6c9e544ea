"""A canary with a replay, in the world of virtual time: what becomes of its traffic, and of an operator that dies."""

from typing import Any

import pytest
from rollout_actions import NEXT, annotate, at_phase, canary, live, storage
from rollout_world import World

from model_operator.api.replay import ReplayCounts
from model_operator.api.resource import ObjectKey
from model_operator.api.values import replace
from model_operator.errors import ProviderError

STEP = {"replay": {"requests": 100, "agreement": {"min": 0.9}, "timeoutSeconds": 60}}
EQUAL, OTHER, FEW = (
    ReplayCounts(requests=100, agreed=100),
    ReplayCounts(requests=100, agreed=50),
    ReplayCounts(requests=10, agreed=10),
)


async def replaying(*, with_deaths: bool = False, token: bytes = b"x" * 32, **analysis: Any) -> tuple[World, ObjectKey]:
    """A canary that waits in its replay, for which no request is recorded yet."""
    world = World(with_deaths=with_deaths)
    world.settings = replace(world.settings, token_secret=token, token_secret_id="1")
    world.start_operator()
    strategy = canary(False, steps=[STEP, {"setWeight": 50}])
    if analysis:
        metrics = [{"name": "errors", "fail": {"ratioMargin": 1.25}}]
        strategy["canary"]["analysis"] = {"metrics": metrics, **analysis}
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=lambda w: "requests recorded" in w.status(key).get("message", ""))
    return world, key


async def test_a_canary_that_agrees_goes_on_also_when_the_operator_dies_after_any_write() -> None:
    world, key = await replaying(with_deaths=True)
    world.replays.recorded, world.replays.counts = 50, EQUAL
    await world.run(key)
    found = world.status(key)
    assert at_phase("Healthy")(world)
    assert found["stableRevision"] in found["history"][0]["revision"]
    assert (found["replay"]["phase"], found["replay"]["requests"]) == ("Passed", 100)
    assert world.deaths


async def test_one_that_does_not_goes_back_without_weight_also_when_the_operator_dies_after_any_write() -> None:
    world, key = await replaying(with_deaths=True)
    stable = world.status(key)["stableRevision"]
    world.replays.recorded, world.replays.counts = 50, OTHER
    await world.run(key)
    found = world.status(key)
    assert at_phase("Degraded")(world)
    assert found["stableRevision"] == stable
    assert found["history"][0]["reason"] == "ReplayFailed"
    assert "agreement: 50 of 100 requests (50.00%)" in found["history"][0]["message"]
    assert found["replay"]["metrics"][0]["verdict"] == "Fail"
    assert "weights" not in found
    assert world.deaths


@pytest.mark.parametrize(
    ("wish", "phase", "reason"),
    [
        pytest.param("Pause", "Paused", "", id="waits for a person"),
        pytest.param("Promote", "Healthy", "AllStepsDone", id="goes on"),
        pytest.param("Abort", "Degraded", "ReplayInconclusive", id="goes back"),
    ],
)
async def test_a_replay_that_proves_nothing_ends_as_the_analysis_says(wish: str, phase: str, reason: str) -> None:
    world, key = await replaying(onInconclusive=wish)
    world.replays.recorded, world.replays.counts = 5, FEW
    await world.run(key, until=lambda w: w.status(key)["replay"]["phase"] == "Inconclusive")
    await world.run(key, until=at_phase(phase))
    found = world.status(key)
    if reason:
        assert found["history"][0]["reason"] == reason
    else:
        assert found["pauseConditions"][0]["reason"] == "ReplayInconclusive"
        assert "10 of 10 requests (100.00%), at least 0.9 required, needs about 19 more" in found["message"]
        annotate(world, key, "promote", found["canaryRevision"])
        await world.run(key)
        assert at_phase("Healthy")(world)


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        pytest.param(0, "stable answered no requests within 1m", id="nobody asks stable"),
        pytest.param(ProviderError("10.0.0.1 answered 404"), "10.0.0.1 answered 404", id="its server is older"),
    ],
)
async def test_a_sample_that_never_comes_is_told(recorded: Any, said: str) -> None:
    world, key = await replaying()
    world.replays.recorded = recorded
    await world.run(key, until=at_phase("Paused"))
    assert said in world.status(key)["message"]
    assert world.status(key)["weights"]["applied"] == 0


async def test_pods_without_a_token_show_no_requests() -> None:
    world, key = await replaying(token=b"")
    await world.run(key, until=at_phase("Paused"))
    assert "have no token of the operator, and show no requests" in world.status(key)["message"]
    assert not world.replays.asked


async def test_requests_are_asked_of_stable_and_answered_by_one_pod_of_the_canary() -> None:
    world, key = await replaying()
    found = world.status(key)
    world.replays.recorded, world.replays.counts = 80, EQUAL
    await world.run(key)
    assert all(f"-{found['stableRevision']}-" in url for url, _, _ in world.replays.asked)
    assert {(size, token) for _, size, token in world.replays.asked} == {(100, "token of fraud")}
    [(url, size)] = world.replays.compared
    assert f"-{found['canaryRevision']}-" in url
    assert size == 100, "what two pods kept is one sample, and no larger than was asked"
