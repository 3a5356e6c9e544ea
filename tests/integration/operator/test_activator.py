"""The activator as a server: what clients send arrives, and what they get where no pod answers."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from activators import activator
from aiohttp import web
from free_ports import free_port
from waiting import eventually
from yarl import URL

from model_operator.activator import listeners
from model_operator.activator.settings import InvalidSettings, settings_from
from model_operator.api.activation import Routes


@dataclass
class Pod:
    """A server of a model: it says what it got, or what a test wants."""

    url: str = ""
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            body = await request.content.read()
            self.seen.append((request.method, request.path_qs, dict(request.headers), body))
            if request.path == "/stream":
                response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
                await response.prepare(request)
                for number in range(3):
                    await response.write(b"data: %d\n\n" % number)
                    await asyncio.sleep(0.05)
                return response
            if request.path == "/half":
                response = web.StreamResponse(headers={"Content-Length": "100"})
                await response.prepare(request)
                await response.write(b"half")
            if request.path in ("/dies", "/half"):
                assert request.transport is not None
                request.transport.abort()
            await asyncio.sleep(0.02)
            return web.Response(status=418, body=body, headers={"X-Model": "fraud", "Set-Cookie": "a=1"})
        finally:
            self.at_once -= 1


@asynccontextmanager
async def pod() -> AsyncIterator[Pod]:
    found, port = Pod(), free_port()
    runner = web.ServerRunner(web.Server(found.handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    found.url = f"http://127.0.0.1:{port}"
    try:
        yield found
    finally:
        await runner.cleanup()


async def test_a_request_waits_for_a_pod_and_arrives_as_it_was_sent() -> None:
    async with activator() as scene, pod() as server:
        await scene.tell()
        body = bytes(range(256)) * 40_000  # 10 MB, far more than is read ahead
        headers = {"Host": "anything.example.com", "X-Api-Key": "k", "Content-Type": "application/octet-stream"}
        url = f"{scene.url}/v2/models/a%2Fb/infer?q=%20x&q=2"
        asking = asyncio.create_task(scene.client.post(URL(url, encoded=True), data=io.BytesIO(body), headers=headers))
        await scene.held(1)
        await asyncio.sleep(0.2)
        assert not asking.done()
        await scene.tell(server.url)
        response = await asyncio.wait_for(asking, 10)
        assert (response.status, response.headers["X-Model"], await response.read()) == (418, "fraud", body)
        assert response.headers["Connection"] == "close"
        (method, path, sent, _) = server.seen[0]
        assert (method, path) == ("POST", "/v2/models/a%2Fb/infer?q=%20x&q=2")
        assert (sent["Host"], sent["X-Api-Key"], sent["Content-Length"]) == (headers["Host"], "k", str(len(body)))
        assert await scene.outcomes() == {"answered": 1}
        await scene.held(0)


async def test_a_stream_is_passed_on_while_it_comes() -> None:
    async with activator() as scene, pod() as server:
        await scene.tell(server.url)
        async with scene.client.get(f"{scene.url}/stream") as response:
            first = await asyncio.wait_for(response.content.readuntil(b"\n\n"), 5)
            assert first == b"data: 0\n\n"
            assert await response.content.read() == b"data: 1\n\ndata: 2\n\n"


async def test_a_client_that_waits_for_permission_gets_it_when_there_is_a_pod() -> None:
    async with activator() as scene, pod() as server:
        await scene.tell(server.url)
        response = await scene.client.post(scene.url, data=b"x" * 100, expect100=True)
        assert (response.status, await response.read()) == (418, b"x" * 100)


async def test_no_pod_gets_more_requests_at_once_than_it_may() -> None:
    async with activator(requests_per_pod=3) as scene, pod() as server:
        await scene.tell()
        asking = [asyncio.create_task(scene.client.post(scene.url, data=b"x")) for _ in range(30)]
        await scene.held(30)
        await scene.tell(server.url)
        assert {response.status for response in await asyncio.gather(*asking)} == {418}
        assert server.most_at_once == 3


async def test_another_pod_is_tried_if_one_cannot_be_reached() -> None:
    async with activator() as scene, pod() as server:
        await scene.tell(f"http://127.0.0.1:{free_port()}")
        asking = asyncio.create_task(scene.client.post(scene.url, data=b"x"))
        await asyncio.sleep(0.3)
        assert not asking.done()
        await scene.tell(server.url)
        assert (await asyncio.wait_for(asking, 5)).status == 418


@pytest.mark.parametrize(
    ("settings", "problem", "outcome", "sentence"),
    [
        pytest.param({"hold_seconds": 1}, "", "timeout", "no pod of it was ready within 1 s", id="nothing starts"),
        pytest.param(
            {}, "ArtifactNotFound: gone", "failed", "cannot start: ArtifactNotFound: gone", id="it cannot start"
        ),
    ],
)
async def test_a_model_that_does_not_come_is_unavailable(
    settings: dict[str, Any], problem: str, outcome: str, sentence: str
) -> None:
    async with activator(**settings) as scene:
        await scene.tell(problem=problem)
        async with scene.client.post(scene.url, data=b"x") as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "5")
            assert sentence in (await response.json())["error"]
        assert await scene.outcomes() == {outcome: 1}


@pytest.mark.parametrize("limit", ["max_held", "max_held_per_model"])
async def test_too_many_requests_are_refused_at_once(limit: str) -> None:
    async with activator(**{limit: 2}) as scene:
        await scene.tell()
        asking = [asyncio.create_task(scene.client.post(scene.url, data=b"x")) for _ in range(2)]
        await scene.held(2)
        async with scene.client.post(scene.url, data=b"x") as response:
            assert response.status == 503
            assert "2 requests wait" in (await response.json())["error"]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await scene.held(0)
        assert await scene.outcomes() == {"limited": 1, "gone": 2}


async def test_a_flood_for_the_models_of_one_team_leaves_room_for_those_of_another() -> None:
    async with activator(max_held=6) as scene:
        other = await scene.tell_two()
        asking = [asyncio.create_task(scene.client.post(scene.url, data=b"x")) for _ in range(3)]
        await scene.held(3)
        async with scene.client.post(scene.url, data=b"x") as response:
            assert response.status == 503
            assert "3 requests wait for models of this namespace" in (await response.json())["error"]
        asking.append(asyncio.create_task(scene.client.post(f"http://127.0.0.1:{other}", data=b"x")))

        async def is_held() -> bool:
            return (await scene.demand()).held.get("bank/risk") == 1

        await eventually(is_held, "the other team's request waits", seconds=10)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


@pytest.mark.parametrize(
    ("head", "answer"),
    [
        pytest.param(b"", b"", id="silence"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: fraud\r\nX-Slow: ", b"", id="half a head"),
        pytest.param(b"POST / HTTP/1.1\r\nX-Long: " + b"a" * 70_000, b"HTTP/1.1 431 ", id="a head without end"),
    ],
)
async def test_a_client_that_sends_no_whole_head_is_cut(
    head: bytes, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "_HEAD_SECONDS", 0.2)
    async with activator() as scene:
        await scene.tell()
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(head)
        with suppress(ConnectionResetError):
            assert (await asyncio.wait_for(reader.read(), 10)).startswith(answer)
        assert (await scene.demand()).held == {}
        writer.close()


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "CONNECT"])
@pytest.mark.parametrize(
    "target", ["a@{}", "0@{}", "http://{}/", "http://a@{}/", "//a@{}/", "/\\@{}", ".{}", ":@{}", "*"]
)
async def test_no_target_of_a_request_leads_elsewhere_than_to_a_pod(method: str, target: str) -> None:
    async with activator() as scene, pod() as server, pod() as internal:
        await scene.tell(server.url)
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        asked = target.format(internal.url.removeprefix("http://"))
        writer.write(f"{method} {asked} HTTP/1.1\r\nHost: fraud\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.split(b" ")[1] == (b"400" if method == "CONNECT" or not target.startswith("/") else b"418")
        assert internal.seen == []
        writer.close()


async def test_a_head_may_come_in_pieces() -> None:
    async with activator() as scene, pod() as server:
        await scene.tell(server.url)
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        for piece in (b"POST /x HTTP/1.1\r\nHost: fraud\r\nConte", b"nt-Length: 4\r\n\r", b"\nbo", b"dy"):
            writer.write(piece)
            await asyncio.sleep(0.05)
        answer = await asyncio.wait_for(reader.read(), 10)  # until the connection is closed
        assert answer.startswith(b"HTTP/1.1 418")
        assert answer.endswith(b"body")
        writer.close()


async def test_a_request_to_a_pod_that_ends_is_sent_once_and_answered_502() -> None:
    async with activator() as scene, pod() as server:
        await scene.tell(server.url)
        async with scene.client.post(f"{scene.url}/dies", data=b"x") as response:
            assert response.status == 502
            assert "the pod did not answer" in (await response.json())["error"]
        assert len(server.seen) == 1
        assert await scene.outcomes() == {"broken": 1}


async def test_an_answer_that_is_not_whole_does_not_look_like_one() -> None:
    async with activator() as scene, pod() as server:
        await scene.tell(server.url)
        async with scene.client.get(f"{scene.url}/half") as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        assert await scene.outcomes() == {"broken": 1}


async def test_what_is_held_is_answered_though_the_activator_is_asked_to_end() -> None:
    async with pod() as server, activator() as scene:
        await scene.tell()
        asking = asyncio.create_task(scene.client.post(scene.url, data=b"x"))
        await scene.held(1)
        scene.stop.set()
        await asyncio.sleep(0.3)
        await scene.tell(server.url)
        assert (await asyncio.wait_for(asking, 5)).status == 418


async def test_nobody_without_the_token_says_where_requests_lead() -> None:
    async with activator() as scene:
        for given in ({}, {"x-api-key": "guess"}):
            async with scene.client.put(f"{scene.control}/routes", data=b'{"routes":[]}', headers=given) as response:
                assert response.status == 401
            async with scene.client.get(f"{scene.control}/demand", headers=given) as response:
                assert response.status == 401


async def test_it_is_ready_from_the_first_routes_on() -> None:
    async with activator() as scene:
        async with scene.client.get(f"{scene.metrics}/readyz") as response:
            assert response.status == 503
        await scene.tell()
        async with scene.client.get(f"{scene.metrics}/readyz") as response:
            assert response.status == 200


async def test_a_model_that_is_gone_has_no_port_and_no_series() -> None:
    async with activator() as scene, pod() as server:
        await scene.tell(server.url)
        await (await scene.client.post(scene.url, data=b"x")).read()
        assert await scene.outcomes() == {"answered": 1}
        await scene.operator.tell(scene.control, Routes())
        with pytest.raises(aiohttp.ClientConnectorError):
            await scene.client.post(scene.url, data=b"x")
        assert await scene.outcomes() == {}


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        pytest.param({}, "token", id="no token"),
        pytest.param(
            {"MODEL_ACTIVATOR_TOKEN": "t", "MODEL_ACTIVATOR_HOLD": "5"}, "MODEL_ACTIVATOR_HOLD is unknown", id="no such"
        ),
        pytest.param(
            {"MODEL_ACTIVATOR_TOKEN": "t", "MODEL_ACTIVATOR_MAX_HELD": "0"}, "max_held", id="nothing may wait"
        ),
    ],
)
def test_settings_that_cannot_work_are_named(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidSettings, match=sentence):
        settings_from(environment)
