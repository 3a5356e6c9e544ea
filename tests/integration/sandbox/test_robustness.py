"""What a stranger can send, and clients that misbehave."""

import asyncio
import json
import socket
from contextlib import suppress
from typing import Any

import pytest

from model_sandbox.apiserver.store import KEPT_EVENTS
from model_sandbox.testing import Sandbox, sandbox

MAPS = "/api/v1/namespaces/default/configmaps"


async def raw(server: Sandbox, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = server.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    await writer.drain()
    return reader, writer


async def deaf(server: Sandbox, data: bytes) -> socket.socket:
    """A client that sends and never reads, not even into a buffer."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, (host, int(port)))
    await loop.sock_sendall(client, data)
    return client


async def alive(api: Any) -> None:
    async with asyncio.timeout(5):
        status, _ = await api.send("GET", MAPS)
    assert status == 200


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100, id="a TLS hello"),
        pytest.param(b"\xff" * 4096 + b"\r\n\r\n", id="garbage"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", id="an endless header"),
        pytest.param(b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf", id="half a request"),
        pytest.param(b"POST /api HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="a bad chunk"),
    ],
)
async def test_nonsense_on_the_socket_hurts_nobody_else(data: bytes, api_of: Any) -> None:
    async with sandbox() as server:
        api = api_of(server)
        _, writer = await raw(server, data)
        await alive(api)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        await alive(api)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"[" * 100_000, 400, id="deeply nested"),
        pytest.param(b'{"data": {"a": "' + b"x" * 4_000_000 + b'"}}', 413, id="too large"),
        pytest.param(b"\xff\xfe", 400, id="no UTF-8"),
        pytest.param(b'{"metadata": 5}', 400, id="metadata that is a number"),
        pytest.param(b'{"metadata": {"name": "a", "labels": []}}', 400, id="labels that are a list"),
        pytest.param(b'{"metadata": {"name": "a"}, "data": NaN}', 400, id="not a number"),
        pytest.param(b"null", 400, id="null"),
    ],
)
async def test_a_bad_body_is_refused(body: bytes, status: int, api_of: Any) -> None:
    async with sandbox() as server:
        api = api_of(server)
        found, answer = await api.send("POST", MAPS, body)
        assert (found, answer["kind"]) == (status, "Status")
        await alive(api)


async def test_watchers_that_never_read_do_not_slow_others_down(api_of: Any) -> None:
    async with sandbox() as server:
        api = api_of(server)
        request = f"GET {MAPS}?watch=true HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.token}\r\n\r\n"
        idle = [await deaf(server, request.encode()) for _ in range(500)]
        for number in range(20):
            body = {"metadata": {"name": f"m{number}"}, "data": {"x": "y" * 40_000}}
            async with asyncio.timeout(5):
                status, _ = await api.send("POST", MAPS, body)
            assert status == 201
        await alive(api)
        for one in idle:
            one.close()


async def test_a_watch_that_fell_behind_is_told_to_list_again(api_of: Any) -> None:
    async with sandbox() as server:
        api = api_of(server)
        _, first = await api.send("POST", MAPS, {"metadata": {"name": "m"}})
        for number in range(KEPT_EVENTS + 100):
            patch = {"data": {"n": str(number)}}
            await api.send("PATCH", f"{MAPS}/m", patch, "application/merge-patch+json")
        version = first["metadata"]["resourceVersion"]
        async with api.session.get(f"{server.url}{MAPS}?watch=true&resourceVersion={version}") as response:
            event = json.loads(await response.content.readline())
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_a_token_is_needed(api_of: Any) -> None:
    async with sandbox() as server:
        session = api_of(server).session
        async with session.get(server.url + MAPS, headers={"Authorization": "Bearer wrong"}) as response:
            assert response.status == 401
        async with session.get(server.url + "/as/wrong" + MAPS, headers={"Authorization": ""}) as response:
            assert response.status == 401
        async with session.get(server.url + MAPS, headers={"Authorization": ""}) as response:
            assert response.status == 403


async def test_writers_of_one_object_are_told_of_each_other(api_of: Any) -> None:
    async with sandbox() as server:
        api = api_of(server)
        _, made = await api.send("POST", MAPS, {"metadata": {"name": "m"}, "data": {"n": "0"}})
        bodies = [{**made, "data": {"n": str(number)}} for number in range(1, 9)]
        answers = await asyncio.gather(*(api.send("PUT", f"{MAPS}/m", body) for body in bodies))
        assert sorted(status for status, _ in answers) == [200] + [409] * 7
