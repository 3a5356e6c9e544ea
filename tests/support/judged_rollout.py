"""A canary rollout in the world of virtual time whose pods count what a test says."""

import copy
from datetime import timedelta
from typing import Any

from rollout_actions import GATEWAY, NEXT, live, storage
from rollout_world import World

from model_operator.api.resource import ObjectKey
from model_operator.api.shadow import Prediction
from model_operator.clients.metrics_page import Sample

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
        #: Revisions whose servers do not count refusals.
        self.without_refusals: set[str] = set()
        self._counts = {self.stable: [0, 0, 0, 0], self.canary: [0, 0, 0, 0]}

    @property
    def status(self) -> Any:
        return self.world.status(self.key)

    async def serve(self, *, seconds: int = 15, **bad: tuple[int, ...]) -> None:
        """Let time pass in which each pod answers 100 requests: of them (errors, slow ones, refusals)."""
        for revision, (errors, slow, *refused) in ((self.stable, bad["stable"]), (self.canary, bad["canary"])):
            counts = self._counts[revision]
            counts[0] += 100
            counts[1] += errors
            counts[2] += slow
            counts[3] += sum(refused)
            durations = {
                0.1: counts[0] - counts[2],
                0.25: counts[0] - counts[2],
                1.0: counts[0],
                float("inf"): counts[0],
            }
            self.world.pods.samples[revision] = Sample(
                model=None,
                requests=counts[0],
                errors=counts[1],
                durations=durations,
                refusals=None if revision in self.without_refusals else counts[3],
            )
        await self.look(seconds=seconds)

    async def look(self, *, seconds: int = 15) -> None:
        """Let time pass, after which the operator looks at what the pods have counted."""
        self.world.clock.advance(timedelta(seconds=seconds))
        self.world.sync()
        await self.world.evidence.poll()
        await self.world.operate(self.key)
        self.world.cluster.tick()
        await self.world.operate(self.key)


CANARY = {"canary": {"steps": STEPS, "maxSurge": 1, "analysis": ANALYSIS}}
BLUE_GREEN = {"blueGreen": {"analysis": ANALYSIS}}


async def rollout(strategy: dict[str, Any] = CANARY) -> Rollout:
    world = World()
    key = await live(world, copy.deepcopy(strategy))
    world.cluster.change(key, storage(NEXT))
    if "canary" in strategy:
        await world.run(key, until=lambda w: w.status(key).get("currentStepIndex") == 1)
    else:
        await world.run(key, until=lambda w: w.status(key)["readyReplicas"] == 4)
    found = Rollout(world, key)
    await found.serve(stable=(0, 0), canary=(0, 0))
    return found


SHADOW: dict[str, Any] = {
    "canary": {
        "steps": [{"setMirrorRoute": {"percentage": 100}}, {"analysis": {"maxDuration": "1h"}}],
        "analysis": {"interval": "15s", "warmup": "0s", "metrics": [{"name": "shadow-agreement", "min": 0.95}]},
        "trafficRouting": GATEWAY,
    }
}


async def mirrored(**metric: Any) -> Rollout:
    """A canary at no weight that has a copy of every request."""
    strategy = copy.deepcopy(SHADOW)
    strategy["canary"]["analysis"]["metrics"][0].update(metric)
    return await rollout(strategy)


async def answer(found: Rollout, count: int, *, differing: int = 0) -> None:
    """Let both revisions answer the same requests, some of them otherwise."""
    told = found.world.predictions.told
    for revision in (found.stable, found.canary):
        before = told.setdefault(revision, [])
        assert isinstance(before, list)
        number = len(before)
        for i in range(count):
            value = 1.0 if revision == found.canary and i < differing else 0.0
            before.append(Prediction(request=f"{number + i:012x}", size=1, numbers=(value,)))
    await found.serve(stable=(0, 0), canary=(0, 0))
