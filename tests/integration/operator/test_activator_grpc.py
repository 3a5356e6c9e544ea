"""Calls over gRPC wait for a pod like requests over HTTP, and are passed on as they came."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from activators import SECRET, Scene, activator, port_of_model
from free_ports import free_port
from grpc_models import BODY, INFER, model
from waiting import eventually, until

from model_operator.api.activation import GRPC_BELOW, Route, Routes, activator_token
from model_operator.clients.activators import HttpActivators
from model_operator.errors import ProviderError


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

        await until(lambda: channel.get_state() is not grpc.ChannelConnectivity.READY)
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


@contextmanager
def process(control: int) -> Iterator[subprocess.Popen[bytes]]:
    """An activator in a process of its own, which ends with the context."""
    settings = {
        "TOKEN": activator_token(SECRET),
        "HOST": "127.0.0.1",
        "CONTROL_PORT": str(control),
        "METRICS_PORT": str(free_port()),
    }
    env = {**os.environ, **{f"MODEL_ACTIVATOR_{name}": value for name, value in settings.items()}}
    child = subprocess.Popen([sys.executable, "-m", "model_operator.activator"], env=env, stderr=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


async def test_a_call_with_a_retry_policy_is_answered_though_its_activator_is_killed() -> None:
    policy = {
        "maxAttempts": 5,
        "initialBackoff": "1s",
        "maxBackoff": "5s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    control, port = free_port(), port_of_model()
    address = f"127.0.0.1:{port - GRPC_BELOW}"
    nobody: Any = None
    async with (
        model() as (pod, pod_port),
        HttpActivators(nobody, "modeldeploy", "activator", SECRET) as operator,
        grpc.aio.insecure_channel(address, options=[("grpc.service_config", config)]) as channel,
    ):

        async def told(*backends: str) -> bool:
            route = Route(namespace="shop", name="fraud", port=port, backends=backends, grpc_port=pod_port)
            try:
                return bool((await operator.tell(f"http://127.0.0.1:{control}", Routes(routes=(route,)))).ports)
            except ProviderError:
                return False

        async def is_held() -> bool:
            return bool((await operator.demand(f"http://127.0.0.1:{control}", -1)).held)

        with process(control) as first:
            await eventually(told, "the first activator listens", seconds=20)
            call = channel.unary_unary(INFER)(b"x", timeout=60)
            await eventually(is_held, "the call is held", seconds=10)
            first.kill()
        with process(control):
            await eventually(lambda: told("http://127.0.0.1:1"), "the next activator listens", seconds=20)
            assert await call == b"x"
        assert len(pod.seen) == 1
