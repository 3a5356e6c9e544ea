"""Connections with TLS wait for a pod like requests over HTTP, and are passed on as they came."""

import asyncio
import io
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from activators import activator
from aiohttp import web
from free_ports import free_port
from grpc_models import BODY, INFER, model
from tls_front import Authority
from waiting import eventually

from model_operator.api.activation import GRPC_BELOW


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Files of an authority, and of a certificate for 127.0.0.1 with its key."""
    made = Authority(tmp_path_factory.mktemp("authority"))
    return made.certificate, *made.issue("fraud", hosts=("127.0.0.1",))


@asynccontextmanager
async def https_pod(
    authority: tuple[Path, Path, Path], handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
) -> AsyncIterator[str]:
    context, port = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), free_port()
    context.load_cert_chain(*authority[1:])
    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    try:
        yield f"https://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def echo(request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(0.02)
    return web.Response(body=await request.read())


def client_of(authority: tuple[Path, Path, Path], **more: Any) -> aiohttp.ClientSession:
    trust = ssl.create_default_context(cafile=str(authority[0]))
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust, limit=0, **more))


async def test_a_connection_with_tls_waits_and_reaches_the_certificate_of_the_pod(
    authority: tuple[Path, Path, Path],
) -> None:
    async with activator() as scene, https_pod(authority, echo) as url, client_of(authority) as client:
        await scene.tell()
        asking = asyncio.create_task(client.post(f"https://127.0.0.1:{scene.port}/predict", data=io.BytesIO(BODY * 3)))
        await scene.held(1)
        await asyncio.sleep(0.2)
        assert not asking.done()
        await scene.tell(url)
        assert await (await asyncio.wait_for(asking, 10)).read() == BODY * 3
        await scene.held(0)
        again = await client.post(f"https://127.0.0.1:{scene.port}/predict", data=b"again")
        assert await again.read() == b"again", "the connection stays, without a place in the line"


async def test_many_connections_with_tls_are_all_answered(authority: tuple[Path, Path, Path]) -> None:
    async with (
        activator(requests_per_pod=32) as scene,
        https_pod(authority, echo) as url,
        client_of(authority) as client,
    ):
        await scene.tell()

        async def ask(number: int) -> bytes:
            async with client.post(f"https://127.0.0.1:{scene.port}/", data=b"%d" % number) as response:
                return await response.read()

        asking = [asyncio.create_task(ask(number)) for number in range(200)]
        await scene.held(200)
        await scene.tell(url)
        answers = await asyncio.wait_for(asyncio.gather(*asking), 60)
        assert answers == [b"%d" % number for number in range(200)]
        await scene.held(0)
        assert await scene.outcomes() == {"answered": 200}


async def test_a_client_of_tls_that_closes_with_its_answer_is_answered(authority: tuple[Path, Path, Path]) -> None:
    async with activator() as scene, https_pod(authority, echo) as url:
        await scene.tell(url)
        async with client_of(authority, force_close=True) as client:
            response = await client.post(f"https://127.0.0.1:{scene.port}/", data=b"x")
            assert await response.read() == b"x"
        await scene.held(0)
        assert await scene.outcomes() == {"answered": 1}


async def test_grpc_over_tls_waits_too(authority: tuple[Path, Path, Path]) -> None:
    root, certificate, key = (file.read_bytes() for file in authority)
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    async with activator() as scene, model(credentials) as (pod, port):
        await scene.tell(grpc_port=port, grpc_tls=True)
        address = f"127.0.0.1:{scene.port - GRPC_BELOW}"
        async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(root)) as channel:
            call = channel.unary_unary(INFER)(BODY)
            await scene.held(1)
            await scene.tell("https://127.0.0.1:1", grpc_port=port, grpc_tls=True)
            assert await asyncio.wait_for(call, 10) == BODY
        assert pod.most_at_once == 1


async def test_a_client_of_tls_that_cannot_be_answered_gets_an_alert(authority: tuple[Path, Path, Path]) -> None:
    async with activator(hold_seconds=1) as scene, client_of(authority) as client:
        await scene.tell()
        with pytest.raises(aiohttp.ClientConnectorError, match=r"(?i)internal.error"):
            await client.post(f"https://127.0.0.1:{scene.port}/", data=b"x")
        assert await scene.outcomes() == {"timeout": 1}


@pytest.mark.parametrize("limit", ["max_held", "max_held_per_model"])
async def test_too_many_connections_are_refused_at_once(authority: tuple[Path, Path, Path], limit: str) -> None:
    async with activator(**{limit: 2}) as scene, client_of(authority) as client:
        await scene.tell()
        asking = [asyncio.create_task(client.post(f"https://127.0.0.1:{scene.port}/", data=b"x")) for _ in range(2)]
        await scene.held(2)
        with pytest.raises(aiohttp.ClientConnectorError, match=r"(?i)internal.error"):
            await client.post(f"https://127.0.0.1:{scene.port}/", data=b"x")
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await scene.held(0)
        assert await scene.outcomes() == {"limited": 1, "gone": 2}


async def test_connections_to_the_models_of_one_team_leave_room_for_those_of_another(
    authority: tuple[Path, Path, Path],
) -> None:
    async with activator(max_held=4) as scene, client_of(authority) as client:
        other = await scene.tell_two()
        asking = [asyncio.create_task(client.post(f"https://127.0.0.1:{scene.port}/", data=b"x")) for _ in range(2)]
        await scene.held(2)
        with pytest.raises(aiohttp.ClientConnectorError, match=r"(?i)internal.error"):
            await client.post(f"https://127.0.0.1:{scene.port}/", data=b"x")
        asking.append(asyncio.create_task(client.post(f"https://127.0.0.1:{other}/", data=b"x")))

        async def is_held() -> bool:
            return (await scene.demand()).held.get("bank/risk") == 1

        await eventually(is_held, "the other team's connection waits", seconds=10)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def test_a_large_answer_does_not_pile_up_for_a_client_that_reads_slowly(
    authority: tuple[Path, Path, Path],
) -> None:
    size, sent = 64 * 2**20, 0

    async def flood(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Length": str(size)})
        await response.prepare(request)
        for _ in range(size // 2**16):
            await response.write(bytes(2**16))
            sent += 2**16
        return response

    async with activator() as scene, https_pod(authority, flood) as url, client_of(authority) as client:
        await scene.tell(url)
        async with client.get(f"https://127.0.0.1:{scene.port}/") as response:
            await asyncio.sleep(1)
            assert sent < size // 2
            assert len(await response.read()) == size


async def test_a_client_of_tls_that_leaves_gives_its_place_back(authority: tuple[Path, Path, Path]) -> None:
    async with activator() as scene, client_of(authority) as client:
        await scene.tell()
        asking = asyncio.create_task(client.post(f"https://127.0.0.1:{scene.port}/", data=b"x"))
        await scene.held(1)
        asking.cancel()
        await scene.held(0)
        assert await scene.outcomes() == {"gone": 1}


async def test_plain_requests_to_a_model_with_tls_are_told_so_and_wrong_tls_is_refused(
    authority: tuple[Path, Path, Path],
) -> None:
    async with activator() as scene, https_pod(authority, echo) as url, client_of(authority) as client:
        await scene.tell(url)
        async with scene.client.post(scene.url, data=b"x") as response:
            assert (response.status, "https" in (await response.json())["error"]) == (400, True)
        await scene.tell("http://127.0.0.1:1")
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.post(f"https://127.0.0.1:{scene.port}/", data=b"x")


async def test_a_connection_that_says_nothing_wakes_nothing() -> None:
    async with activator() as scene:
        await scene.tell()
        _, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        await asyncio.sleep(0.2)
        assert (await scene.demand()).held == {}
        writer.close()
        await writer.wait_closed()
