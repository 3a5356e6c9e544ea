"""Requests to one model wait in line for a pod with room."""

import asyncio
from dataclasses import dataclass, field

import pytest

from model_operator.activator.line import CannotStart, Line, LineFull
from model_operator.api.activation import Route
from model_operator.api.values import replace

ROUTE = Route(namespace="shop", name="fraud", port=20_000)


@dataclass
class Told:
    wakes: list[float] = field(default_factory=list)
    changes: int = 0

    def changed(self) -> None:
        self.changes += 1


def line_of(told: Told, *, limit: int = 10, per_pod: int = 2) -> Line:
    return Line(ROUTE, limit=limit, per_pod=per_pod, woken=told.wakes.append, changed=told.changed)


async def entering(line: Line, count: int) -> list["asyncio.Task[str]"]:
    tasks = [asyncio.create_task(line.enter()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


def awake(*pods: str) -> Route:
    return replace(ROUTE, backends=pods)


async def test_requests_wait_until_a_pod_is_ready_and_no_pod_gets_more_than_it_may() -> None:
    told = Told()
    line = line_of(told)
    tasks = await entering(line, 5)
    assert (line.held, told.changes) == (5, 1)
    line.update(awake("a", "b"))
    await asyncio.sleep(0)
    assert sorted(task.result() for task in tasks if task.done()) == ["a", "a", "b", "b"]
    assert (line.held, len(told.wakes)) == (1, 1)
    line.leave("a")
    assert await tasks[4] == "a"


async def test_the_end_of_the_last_request_is_told() -> None:
    told = Told()
    line = line_of(told)
    line.update(awake("a"))
    line.leave(await line.enter())
    assert (line.requests, told.changes, told.wakes) == (0, 2, [])


async def test_the_place_of_a_client_that_has_gone_is_free() -> None:
    told = Told()
    line = line_of(told, per_pod=1)
    gone, stays = await entering(line, 2)
    gone.cancel()
    await asyncio.sleep(0)
    assert line.held == 1
    line.update(awake("a"))
    assert await stays == "a"
    line.leave("a")
    assert line.requests == 0


async def test_a_client_that_goes_when_its_turn_comes_gives_its_place_back() -> None:
    line = line_of(Told(), per_pod=1)
    (gone,) = await entering(line, 1)
    line.update(awake("a"))
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert line.requests == 0
    assert await line.enter() == "a"


async def test_too_many_are_refused() -> None:
    line = line_of(Told(), limit=2)
    tasks = await entering(line, 2)
    with pytest.raises(LineFull, match="2 requests wait"):
        await line.enter()
    assert line.held == 2
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert line.held == 0


async def test_those_that_wait_hear_that_the_model_cannot_start() -> None:
    line = line_of(Told())
    (task,) = await entering(line, 1)
    line.update(replace(ROUTE, problem="ArtifactNotFound: no such object"))
    with pytest.raises(CannotStart, match="ArtifactNotFound"):
        await task
    assert line.requests == 0
