"""A request may name its user (`REVISION@SUFFIX by USER`): the history and an Event record who made it."""

from typing import Any

import pytest
from rollout_actions import NEXT, annotate, at_phase, canary, live, storage
from rollout_world import World

from model_operator.api.resource import ObjectKey
from model_operator.api.status import RequestAnswer, Status
from model_operator.policy.status.events import EventDraft, events

PAUSED = [{"setWeight": 50}, {"pause": {}}]


async def paused_rollout() -> tuple[World, ObjectKey]:
    world = World()
    key = await live(world, canary(routing=True, steps=PAUSED), replicas=2)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    return world, key


def latest(world: World, key: ObjectKey) -> dict[str, Any]:
    entry: dict[str, Any] = world.status(key)["history"][0]
    return entry


@pytest.mark.parametrize(
    ("token", "suffix", "result"),
    [
        ("promote", "1/1764367200", "Promoted"),
        ("promote", "1", "Promoted"),
        ("promote-full", "1764367200", "Promoted"),
        ("abort", "1764367200", "Aborted"),
    ],
)
async def test_the_history_has_the_user_of_the_request(token: str, suffix: str, result: str) -> None:
    world, key = await paused_rollout()
    revision = world.status(key)["canaryRevision"]
    annotate(world, key, token, f"{revision}@{suffix} by system:serviceaccount:team-a:release")
    await world.run(key, until=lambda seen: latest(seen, key)["revision"] == revision)
    assert (latest(world, key)["result"], latest(world, key)["requestedBy"]) == (
        result,
        "system:serviceaccount:team-a:release",
    )


async def test_a_request_without_a_user_leaves_no_name() -> None:
    world, key = await paused_rollout()
    revision = world.status(key)["canaryRevision"]
    annotate(world, key, "promote", f"{revision}@1/1764367200")
    await world.run(key, until=lambda seen: latest(seen, key)["revision"] == revision)
    assert "requestedBy" not in latest(world, key)


async def test_the_undone_revision_has_the_user_of_the_undo() -> None:
    world = World()
    key = await live(world, canary(routing=True, steps=[{"setWeight": 50}]), replicas=2)
    first = world.status(key)["stableRevision"]
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=lambda seen: latest(seen, key)["revision"] != first)
    annotate(world, key, "undo", f"{first}@1764367200 by maria")
    await world.run(key, until=lambda seen: latest(seen, key)["result"] == "Undone")
    assert latest(world, key)["requestedBy"] == "maria"


def test_an_accepted_request_is_one_event() -> None:
    accepted = RequestAnswer("beef@1/17 by maria", is_accepted=True, message="the rollout of beef continues")
    old, new = Status(), Status(answers={"promote": accepted})
    message = "promote of revision beef requested by maria: the rollout of beef continues"
    assert EventDraft("RequestAccepted", message) in list(events(old, new))
    assert list(events(new, new)) == []
