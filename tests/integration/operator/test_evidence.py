"""Counters of pods become evidence in status, whoever restarts meanwhile."""

from datetime import timedelta
from typing import Any

import pytest
from rollout_scenarios import NEXT, at_phase, live, storage
from rollout_world import World

from model_operator.api.resource import ObjectKey
from model_operator.clients.pod_metrics import Sample

ANALYSIS = {
    "interval": "15s",
    "warmup": "0s",
    "metrics": [
        {"name": "errors", "fail": {"ratioMargin": 1.25}, "pass": {"orMax": 0.05}},
        {"name": "latency", "slowerThan": "250ms", "fail": {"ratioMargin": 1.25}},
    ],
}
STEPS = [{"setWeight": 50}, {"analysis": {"minDuration": "10s", "maxDuration": "10m"}}]


class Rollout:
    """A canary at half the traffic whose pods count what a test says."""

    def __init__(self, world: World, key: ObjectKey) -> None:
        self.world, self.key = world, key
        status = world.status(key)
        self.stable, self.canary = status["stableRevision"], status["canaryRevision"]
        self._counts = {self.stable: [0, 0, 0], self.canary: [0, 0, 0]}

    @property
    def status(self) -> Any:
        return self.world.status(self.key)

    async def serve(self, *, seconds: int = 15, **bad: tuple[int, int]) -> None:
        """Let time pass in which each pod answers 100 requests, some of them with errors or slowly."""
        for revision, (errors, slow) in ((self.stable, bad["stable"]), (self.canary, bad["canary"])):
            counts = self._counts[revision]
            counts[0] += 100
            counts[1] += errors
            counts[2] += slow
            durations = {
                0.1: counts[0] - counts[2],
                0.25: counts[0] - counts[2],
                1.0: counts[0],
                float("inf"): counts[0],
            }
            self.world.pods.samples[revision] = Sample(
                model=None, requests=counts[0], errors=counts[1], durations=durations
            )
        self.world.clock.advance(timedelta(seconds=seconds))
        self.world.sync()
        await self.world.evidence.look()
        await self.world.operate(self.key)
        self.world.cluster.tick()
        await self.world.operate(self.key)


async def rollout() -> Rollout:
    world = World()
    strategy = {"canary": {"steps": STEPS, "maxSurge": 1, "analysis": ANALYSIS}}
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=lambda w: w.status(key).get("currentStepIndex") == 1)
    found = Rollout(world, key)
    await found.serve(stable=(0, 0), canary=(0, 0))
    return found


async def test_a_good_canary_passes_and_status_says_why() -> None:
    canary = await rollout()
    await canary.serve(stable=(1, 2), canary=(0, 1))
    errors, latency = canary.status["analysis"]["metrics"]
    assert errors["verdict"] == "Pass"
    assert errors["requests"]["canary"] >= 100
    assert latency["threshold"] == 0.25
    assert canary.status["analysis"]["phase"] == "Passed"
    await canary.world.run(canary.key)
    assert at_phase("Healthy")(canary.world)
    assert canary.status["stableRevision"] == canary.canary


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        pytest.param((20, 0), "errors: canary", id="errors"),
        pytest.param((0, 60), "latency above 250 ms: canary", id="slowness"),
    ],
)
async def test_a_worse_canary_goes_back_with_the_numbers(bad: tuple[int, int], why: str) -> None:
    canary = await rollout()
    for _ in range(6):
        await canary.serve(stable=(1, 1), canary=bad)
        if at_phase("RollingBack", "Degraded")(canary.world):
            break
    await canary.world.run(canary.key)
    assert at_phase("Degraded")(canary.world)
    assert canary.status["rollback"]["reason"] == "AnalysisFailed"
    assert why in canary.status["rollback"]["message"]


async def test_evidence_survives_the_operator() -> None:
    canary = await rollout()
    await canary.serve(stable=(1, 2), canary=(1, 2))
    before = canary.status["analysis"]["metrics"]
    canary.world.start_operator()
    canary.world.sync()
    await canary.world.evidence.look()
    await canary.world.operate(canary.key)
    assert canary.status["analysis"]["metrics"] == before, "what was known is known"
    await canary.serve(stable=(0, 0), canary=(0, 0))
    (after, _), (known, _) = canary.status["analysis"]["metrics"], before
    assert after["requests"]["canary"] > known["requests"]["canary"]
    assert after["bad"] == known["bad"]


async def test_time_that_is_over_ends_as_the_spec_says() -> None:
    canary = await rollout()
    canary.world.cluster.change(
        canary.key, lambda body: body["spec"]["strategy"]["canary"]["analysis"].update(onInconclusive="Abort")
    )
    for _ in range(3):
        await canary.serve(seconds=240, stable=(5, 5), canary=(5, 5))
    await canary.world.run(canary.key)
    assert at_phase("Degraded")(canary.world)
    assert canary.status["rollback"]["reason"] == "AnalysisInconclusive"
