"""What the pods of a live model find in their requests reaches its condition and its Events, and the end of it too."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

from rollout_actions import live
from rollout_world import CountingPods, World

from model_operator.api.inputs import Finding, InputSample
from model_operator.api.resource import ObjectKey
from model_operator.api.status import ModelInfo
from model_operator.clients.metrics_page import Sample

HEIGHT = Finding(feature="height", problem="out_of_range", share=0.9, limit=0.052)


def sample(*findings: Finding) -> Sample:
    model = ModelInfo(uri="s3://m/1", version="1", format="onnx", sha256="")
    return Sample(model=model, requests=500, errors=0, inputs=InputSample(requests=500, findings=findings))


class PodsByName(CountingPods):
    """Pods of which one may tell something else, by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.by_name: dict[str, Sample | None] = {}

    async def read(self, url: str, token_of: ObjectKey | None = None) -> Sample | None:
        name = url.removeprefix("http://").partition(":")[0]
        return self.by_name[name] if name in self.by_name else await super().read(url, token_of)


async def look(world: World, key: ObjectKey) -> Any:
    """Let the operator read the pods once more; return the condition."""
    world.clock.advance(timedelta(seconds=15))
    await world.evidence.poll()
    await world.operate(key)
    return next(one for one in world.status(key)["conditions"] if one["type"] == "DataQuality")


async def test_one_of_several_pods_finds_a_unit_error() -> None:
    world = World()
    world.pods = pods = PodsByName()
    world.start_operator()
    key = await live(world, {"rollingUpdate": {}}, replicas=3, monitoring={"dataQuality": {}})
    revision = world.status(key)["stableRevision"]
    pods.samples = {revision: sample()}
    assert (await look(world, key))["status"] == "True"
    last = max(pod["metadata"]["name"] for pod in world.cache.pods(key))
    pods.by_name = {last: sample(HEIGHT)}
    found = await look(world, key)
    assert (found["status"], found["reason"]) == ("False", "OutOfRange")
    writes = world.status(key)
    assert await look(world, key) == found
    assert world.status(key) == writes, "nothing new, nothing written"
    pods.by_name = {last: None}
    assert await look(world, key) == found, "a pod that does not answer is no good news"
    pods.by_name = {}
    assert (await look(world, key))["status"] == "True"
    with suppress(TimeoutError):
        async with asyncio.timeout(0.1):
            await world.recorder.run()
    told = [event["reason"] for event in world.cluster.events]
    assert [reason for reason in told if reason in ("OutOfRange", "DataQualityRestored")] == [
        "OutOfRange",
        "DataQualityRestored",
    ]
