"""What a server says while it fetches its model becomes Events of its pod."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from free_ports import free_port
from rollout_actions import SLOW, live, spec, storage
from rollout_world import World

from model_operator.clients.pod_metrics import HttpPodMetrics, Start
from model_operator.engine.startup_events import is_due
from model_operator.testing import Behaviour


@pytest.mark.parametrize(
    ("age", "told", "due"),
    [
        pytest.param(9, None, False, id="a quick start is not worth an Event"),
        pytest.param(10, None, True, id="ten seconds are"),
        pytest.param(19, 10, False, id="told lately"),
        pytest.param(20, 10, True, id="it has taken twice as long"),
    ],
)
def test_a_start_is_told_less_and_less_often(age: int, told: int | None, due: bool) -> None:
    assert is_due(timedelta(seconds=age), None if told is None else timedelta(seconds=told)) is due


async def written(world: World) -> list[Any]:
    """The Events that have been written, after those that wait."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await world.recorder.run()
    return [event for event in world.cluster.events if event["involvedObject"]["kind"] == "Pod"]


async def test_a_long_download_is_told_on_its_pod() -> None:
    world = World()
    world.cluster.behaviours[SLOW] = Behaviour(ready_after=None)
    key = world.cluster.create("fraud", spec(SLOW, {"rollingUpdate": {}}, replicas=1))
    await world.turn(key, 3)
    (pod,) = world.cluster.of_kind("Pod")
    revision = pod["metadata"]["labels"]["modeldeploy.dev/revision"]
    for percent in range(2, 60):
        world.pods.starts[revision] = Start("downloading", f"{percent} % of 4.0 GB, 40.0 MB/s, 60 s left")
        world.sync()
        await world.starts.poll()
        world.clock.advance(timedelta(seconds=1))
    events = await written(world)
    assert {(event["reason"], event["type"]) for event in events} == {("Downloading", "Normal")}
    assert {event["involvedObject"]["uid"] for event in events} == {pod["metadata"]["uid"]}
    assert [event["message"].split(" %")[0] for event in events] == ["9", "19", "39"]


@pytest.fixture
async def server() -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """The URL of a server, and what it answers."""
    given: dict[str, Any] = {"text": "", "status": 503}

    async def ready(_: web.Request) -> web.Response:
        return web.Response(**given)

    app = web.Application()
    app.router.add_get("/readyz", ready)
    runner, port = web.AppRunner(app), free_port()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}", given
    await runner.cleanup()


@pytest.mark.parametrize(
    ("text", "start"),
    [
        pytest.param('{"phase": "loading", "message": "as onnx"}', Start("loading", "as onnx"), id="what it does"),
        pytest.param('{"phase": "failed", "message": "m"}', None, id="a failed start is told by its last words"),
        pytest.param("<html>", None, id="no model server"),
        pytest.param("[]", None, id="no answer of ours"),
    ],
)
async def test_a_server_is_asked_for_its_phase(server: Any, text: str, start: Start | None) -> None:
    url, given = server
    given["text"] = text
    async with HttpPodMetrics() as pods:
        assert await pods.start(url) == start
        assert await pods.start("http://127.0.0.1:1") is None


async def test_a_revision_that_never_becomes_ready_goes_back_with_what_its_server_says() -> None:
    world = World()
    key = await live(world, {"rollingUpdate": {}})
    world.cluster.behaviours[SLOW] = Behaviour(ready_after=None)
    world.cluster.change(key, storage(SLOW))
    await world.turn(key, 3)
    revision = world.status(key)["canaryRevision"]
    told = "GET /ready on port 9000 of the container app: 503 weights are loading"
    world.pods.starts[revision] = Start("loading", told)
    world.clock.advance(timedelta(seconds=20))
    world.sync()
    await world.starts.poll()
    await world.operate(key)
    assert world.status(key)["message"].endswith(told)
    world.clock.advance(timedelta(minutes=11))
    await world.operate(key)
    assert world.status(key)["rollback"]["reason"] == "ProgressDeadlineExceeded"
    assert world.status(key)["rollback"]["message"].endswith(told)


async def test_an_answer_that_nobody_foresaw_ends_no_more_than_one_look(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.cluster.behaviours[SLOW] = Behaviour(ready_after=None)
    key = world.cluster.create("fraud", spec(SLOW, {"rollingUpdate": {}}, replicas=1))
    await world.turn(key, 3)
    start = world.pods.start

    async def fails(url: str) -> Start | None:
        raise OverflowError

    world.clock.advance(timedelta(seconds=20))
    world.sync()
    world.pods.start = fails  # type: ignore[method-assign]
    running = asyncio.create_task(world.starts.run())
    await asyncio.sleep(0.05)
    world.pods.start = start  # type: ignore[method-assign]
    (pod,) = world.cluster.of_kind("Pod")
    world.pods.starts[pod["metadata"]["labels"]["modeldeploy.dev/revision"]] = Start("loading", "as onnx")
    await world.starts.poll()
    assert [event["message"] for event in await written(world)] == ["as onnx"]
    assert "default/fraud" in caplog.text
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
