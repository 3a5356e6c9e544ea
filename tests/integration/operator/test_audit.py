"""The audit log has one line for each decision: who or what decided, and on which evidence."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from rollout_actions import NEXT, annotate, at_phase, canary, live, storage
from rollout_world import World

PAUSED = [{"setWeight": 50}, {"pause": {}}]


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(json.loads(record.getMessage()))


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    logger, handler = logging.getLogger("model_operator.audit"), Lines()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.found
    logger.removeHandler(handler)
    logger.setLevel(before)


async def test_a_rollout_is_told_from_its_start_to_its_end(lines: list[dict[str, Any]]) -> None:
    world = World()
    key = await live(world, canary(routing=True, steps=PAUSED), replicas=2)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    revision = world.status(key)["canaryRevision"]
    annotate(world, key, "promote", f"{revision}@1/1764367200 by alice")
    await world.run(key, until=lambda seen: seen.status(key)["history"][0]["revision"] == revision)
    told = [(one["decision"], one["revision"] == revision, one.get("user", "")) for one in lines]
    assert told == [
        ("Promoted", False, ""),
        ("Started", True, ""),
        ("RequestAccepted", True, "alice"),
        ("Promoted", True, "alice"),
    ]
    last = lines[-1]
    assert (last["namespace"], last["name"], last["reason"]) == (key.namespace, key.name, "AllStepsDone")
    assert last["uri"]
    assert last["time"].endswith("Z")


async def test_a_request_that_changes_nothing_is_told_too(lines: list[dict[str, Any]]) -> None:
    world = World()
    key = await live(world, canary(routing=True, steps=PAUSED), replicas=2)
    lines.clear()
    annotate(world, key, "abort", f"{world.status(key)['stableRevision']}@1764367200 by mallory")
    await world.run(key, until=lambda seen: bool(lines))
    (refused,) = lines
    assert (refused["decision"], refused["request"], refused["user"]) == ("RequestRefused", "abort", "mallory")
    assert refused["message"]
