"""Calls over gRPC and connections with TLS wait for a pod like requests over HTTP, and are passed on as they came."""

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
from activators import Scene, activator
from aiohttp import web
from free_ports import free_port
from tls_front import Authority

from model_operator.api.activation import GRPC_BELOW

INFER = "/inference.GRPCInferenceService/ModelInfer"
BODY = bytes(range(256)) * 1000


class Model(grpc.GenericRpcHandler):  # type: ignore[misc]
    """A model's gRPC server: it answers each message by the same, or ends the call as its name says."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.most_at_once = 0
        self._at_once = 0

    def service(self, details: Any) -> Any:
        name = details.method.rsplit("/", 1)[1]

        async def handle(requests: AsyncIterator[bytes], context: Any) -> None:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.seen.append({**dict(context.invocation_metadata()), "method": details.method})
            await context.send_initial_metadata((("x-model", "fraud"),))
            try:
                async for message in requests:
                    if name == "Refuses":
                        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such column", (("hint", "age"),))
                    await asyncio.sleep(0.02)
                    await context.write(message)
                context.set_trailing_metadata((("x-seconds", "0.1"),))
            finally:
                self._at_once -= 1

        return grpc.stream_stream_rpc_method_handler(handle)


@asynccontextmanager
async def model(credentials: Any = None, *, port: int = 0) -> AsyncIterator[tuple[Model, int]]:
    handler, server, port = Model(), grpc.aio.server(), port or free_port()
    server.add_generic_rpc_handlers((handler,))
    if credentials is None:
        server.add_insecure_port(f"127.0.0.1:{port}")
    else:
        server.add_secure_port(f"127.0.0.1:{port}", credentials)
    await server.start()
    try:
        yield handler, port
    finally:
        await server.stop(0)


def calls_of(scene: Scene, **options: Any) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{scene.port - GRPC_BELOW}", options=list(options.items()))


async def backend(_: Scene) -> str:
    """The URL of a pod: only its host counts for gRPC."""
    return "http://127.0.0.1:1"


async def test_a_call_waits_for_a_pod_and_arrives_as_it_was_sent() -> None:
    async with activator() as scene, model() as (pod, port), calls_of(scene) as channel:
        await scene.tell(grpc_port=port)
        call = channel.unary_unary(INFER)(BODY, metadata=(("x-api-key", "k"), ("data-bin", b"\x00\xff")))
        await scene.held(1)
        await asyncio.sleep(0.2)
        assert not call.done()
        await scene.tell(await backend(scene), grpc_port=port)
        assert await asyncio.wait_for(call, 10) == BODY
        assert dict(await call.initial_metadata())["x-model"] == "fraud"
        assert dict(await call.trailing_metadata())["x-seconds"] == "0.1"
        (seen,) = pod.seen
        assert (seen["method"], seen["x-api-key"], seen["data-bin"]) == (INFER, "k", b"\x00\xff")
        assert await scene.outcomes() == {"answered": 1}
        await scene.held(0)


async def test_a_stream_is_passed_on_while_it_comes() -> None:
    async with activator() as scene, model() as (_, port), calls_of(scene) as channel:
        await scene.tell(await backend(scene), grpc_port=port)
        call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")()
        for message in (b"one", b"two"):
            await call.write(message)
            assert await asyncio.wait_for(call.read(), 5) == message
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_a_refusal_of_the_model_arrives_as_it_is() -> None:
    async with activator() as scene, model() as (_, port), calls_of(scene) as channel:
        await scene.tell(await backend(scene), grpc_port=port)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/any.Service/Refuses")(b"x")
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "no such column")
        assert dict(caught.value.trailing_metadata())["hint"] == "age"
        assert await scene.outcomes() == {"answered": 1}


async def test_a_thousand_calls_at_once_are_all_answered_and_no_pod_gets_more_than_it_may() -> None:
    async with activator(requests_per_pod=16) as scene, model() as (pod, port), calls_of(scene) as channel:
        await scene.tell(grpc_port=port)
        calls = [channel.unary_unary(INFER)(b"%d" % number, timeout=60) for number in range(1000)]
        await scene.held(1000)
        await scene.tell(await backend(scene), grpc_port=port)
        assert await asyncio.gather(*calls) == [b"%d" % number for number in range(1000)]
        assert pod.most_at_once <= 16


@pytest.mark.parametrize(
    ("settings", "told", "seconds", "code", "sentence"),
    [
        pytest.param(
            {"hold_seconds": 1}, {}, None, "UNAVAILABLE", "no pod of it was ready within 1 s", id="nothing starts"
        ),
        pytest.param(
            {"hold_seconds": 1}, {}, 10, "UNAVAILABLE", "no pod of it was ready within 1 s", id="it may wait longer"
        ),
        pytest.param(
            {}, {}, 1.1, "DEADLINE_EXCEEDED", "no pod of it was ready within", id="the client's own deadline is over"
        ),
        pytest.param(
            {},
            {"problem": "ArtifactNotFound: gone"},
            5,
            "UNAVAILABLE",
            "cannot start: ArtifactNotFound: gone",
            id="it cannot start",
        ),
    ],
)
async def test_a_call_that_no_pod_answers_hears_why(
    settings: dict[str, Any], told: dict[str, Any], seconds: float | None, code: str, sentence: str
) -> None:
    async with activator(**settings) as scene, calls_of(scene) as channel:
        await scene.tell(grpc_port=free_port(), **told)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(INFER)(b"x", timeout=seconds)
        assert caught.value.code() is grpc.StatusCode[code]
        assert sentence in caught.value.details()


async def test_calls_that_are_held_are_answered_though_the_activator_is_asked_to_end() -> None:
    async with model() as (_, port), activator() as scene, calls_of(scene) as channel:
        await scene.tell(grpc_port=port)
        calls = [channel.unary_unary(INFER)(BODY) for _ in range(20)]
        await scene.held(20)
        scene.stop.set()
        await asyncio.sleep(0.3)
        await scene.tell(await backend(scene), grpc_port=port)
        assert await asyncio.wait_for(asyncio.gather(*calls), 10) == [BODY] * 20


async def test_too_many_calls_are_refused_and_told_when_to_come_again() -> None:
    async with activator(max_held_per_model=2) as scene, calls_of(scene) as channel:
        await scene.tell(grpc_port=free_port())
        held = [channel.unary_unary(INFER)(b"x") for _ in range(2)]
        await scene.held(2)
        with pytest.raises(grpc.aio.AioRpcError, match="2 requests wait") as caught:
            await channel.unary_unary(INFER)(b"x")
        assert dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"] == "5000"
        for call in held:
            call.cancel()
        await scene.held(0)
        assert await scene.outcomes() == {"limited": 1, "gone": 2}


async def test_another_pod_is_tried_if_one_cannot_be_reached() -> None:
    port = free_port()
    async with activator() as scene, calls_of(scene) as channel:
        await scene.tell(await backend(scene), grpc_port=port)
        call = channel.unary_unary(INFER)(b"x", timeout=20)
        await asyncio.sleep(0.5)
        assert not call.done()
        async with model(port=port):
            assert await call == b"x"


async def test_a_message_that_is_too_large_is_refused() -> None:
    async with activator(max_grpc_message_bytes=1024) as scene, model() as (_, port), calls_of(scene) as channel:
        await scene.tell(await backend(scene), grpc_port=port)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(INFER)(BODY, timeout=10)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_connection_ends_in_good_order_so_that_the_next_calls_go_to_a_pod() -> None:
    async with activator() as scene, model() as (_, port), calls_of(scene) as channel:
        await scene.tell(grpc_port=port)
        call = channel.unary_unary(INFER)(b"x")
        await scene.held(1)

        async def has_left() -> bool:
            return bool(channel.get_state() is not grpc.ChannelConnectivity.READY)

        async with asyncio.timeout(10):
            while not await has_left():
                await asyncio.sleep(0.1)
        await scene.tell(await backend(scene), grpc_port=port)
        assert await asyncio.wait_for(call, 5) == b"x", "an open call goes on"


async def test_a_model_that_gets_or_loses_grpc_gets_or_loses_the_port() -> None:
    async with activator() as scene, model() as (_, port), calls_of(scene) as channel:
        await scene.tell(await backend(scene))
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary(INFER)(b"x", timeout=2)
        await scene.tell(await backend(scene), grpc_port=port)
        assert await channel.unary_unary(INFER)(b"x", timeout=10, wait_for_ready=True) == b"x"
        await scene.tell(await backend(scene))
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary(INFER)(b"x", timeout=2)


async def test_a_call_to_a_pod_that_ends_is_sent_once_and_unavailable() -> None:
    async with activator() as scene, calls_of(scene) as channel:
        async with model() as (pod, port):
            await scene.tell(await backend(scene), grpc_port=port)
            call = channel.stream_stream(INFER)(timeout=20)
            await call.write(b"x")
            assert await call.read() == b"x"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert len(pod.seen) == 1
        assert await scene.outcomes() == {"broken": 1}


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
