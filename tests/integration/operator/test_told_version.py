"""Ready says that `status.model` is what the live revision reports; a server that reports nothing holds nobody back."""

import re

import pytest
from rollout_actions import NEXT, THIRD, annotate, at_phase, canary, live, storage
from rollout_world import CountingPods, World

from model_operator.api.resource import ObjectKey
from model_operator.api.status import ModelInfo
from model_operator.clients.metrics_page import Sample

BY_HAND = {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}], "scaleDownDelaySeconds": 3}}


class Telling(CountingPods):
    """Pods that report the name of their revision as their version."""

    async def read(self, url: str, token_of: ObjectKey | None = None) -> Sample | None:
        found = re.search(r"fraud-([a-z0-9]+)-", url)
        assert found, url
        return Sample(model=ModelInfo(version=f"of {found[1]}"), requests=0, errors=0)


class Watching(World):
    """A world in which each status that says Ready is looked at."""

    ready: list[tuple[str, str]]

    def start_operator(self) -> None:
        self.ready = getattr(self, "ready", [])
        super().start_operator()

    def _after(self, verb: str, body: dict[str, object]) -> None:  # type: ignore[override]
        super()._after(verb, body)
        status = body.get("status")
        if isinstance(status, dict) and is_ready(status):
            self.ready.append((status["stableRevision"], status.get("model", {}).get("version", "")))


def is_ready(status: dict[str, object]) -> bool:
    conditions = status.get("conditions", ())
    assert isinstance(conditions, list | tuple)
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


@pytest.mark.parametrize(
    "strategy", [BY_HAND, {"rollingUpdate": {}}, canary(routing=True)], ids=["hand", "at once", "gateway"]
)
async def test_ready_tells_the_version_that_the_server_reports(strategy: dict[str, object]) -> None:
    world = Watching()
    world.pods = Telling()
    world.start_operator()
    key = await live(world, strategy)
    first = world.status(key)["stableRevision"]
    world.cluster.change(key, storage(NEXT))
    if strategy is BY_HAND:
        await world.run(key, until=at_phase("Paused"))
        annotate(world, key, "promote", f"{world.status(key)['canaryRevision']}@1")
    await world.run(
        key, until=lambda seen: is_ready(dict(seen.status(key))) and seen.status(key)["stableRevision"] != first
    )
    assert len({revision for revision, _ in world.ready}) == 2
    assert all(version == f"of {revision}" for revision, version in world.ready), world.ready


async def test_a_server_that_reports_nothing_is_ready_all_the_same() -> None:
    world = Watching()
    key = await live(world, {"rollingUpdate": {}})
    world.cluster.change(key, storage(THIRD))
    await world.run(key)
    assert is_ready(dict(world.status(key)))
    assert "model" not in world.status(key)


async def test_an_operator_that_starts_again_takes_ready_from_nobody() -> None:
    world = World()
    key = await live(world, {"rollingUpdate": {}})
    before, writes = world.status(key), world.writes
    world.start_operator()
    await world.run(key)
    assert (world.status(key), world.writes) == (before, writes)
