"""An attacker who may write ModelDeployments alone tries to read what the operator can reach."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from aiohttp import web

from model_operator.api.analysis import Source
from model_operator.api.hooks import WebhookEndpoint
from model_operator.clients.egress import EgressPolicy
from model_operator.clients.metric_providers.factory import MetricProviders
from model_operator.clients.webhooks import HttpWebhooks
from model_operator.errors import ProviderError

SECRET = "SecretAccessKey"


async def no_secrets(namespace: str, name: str) -> Mapping[str, str]:
    raise AssertionError("no Secret is needed")


@pytest.fixture
async def internal() -> AsyncIterator[tuple[int, list[str]]]:
    """A service that only the operator's host should reach; it notes who came."""
    came: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        came.append(request.path)
        return web.json_response({"value": SECRET, "message": SECRET})

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1], came
    await runner.cleanup()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.1", "0.0.0.0"])
async def test_a_metric_does_not_reach_loopback(internal: tuple[int, list[str]], host: str) -> None:
    port, came = internal
    async with MetricProviders(no_secrets, EgressPolicy()) as providers:
        with pytest.raises(ProviderError) as raised:
            await providers.value(Source(url=f"http://{host}:{port}/latest/meta-data"), "team-a")
    assert came == []
    assert SECRET not in str(raised.value)


async def test_a_gate_does_not_reach_loopback(internal: tuple[int, list[str]]) -> None:
    port, came = internal
    endpoint = WebhookEndpoint(
        url=f"http://localhost:{port}/quitquitquit", timeout=timedelta(seconds=5), secret_name=None
    )
    async with HttpWebhooks(no_secrets, EgressPolicy()) as hooks:
        answer = await hooks.ask(endpoint, "team-a", {})
    assert (answer.is_open, came) == (False, [])
    assert "not for users to reach" in answer.message


async def test_a_cookie_of_one_users_server_is_sent_to_no_other() -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Cookie", ""))
        response = web.json_response({"value": 1})
        response.set_cookie("evil", "x" * 3000, domain="localhost")
        return response

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://localhost:{runner.addresses[0][1]}"
    egress = EgressPolicy(allowed=(ip_network("127.0.0.0/8"),))
    endpoint = WebhookEndpoint(url=url, timeout=timedelta(seconds=5), secret_name=None)
    async with HttpWebhooks(no_secrets, egress) as hooks, MetricProviders(no_secrets, egress) as providers:
        for namespace in ("team-a", "team-b"):
            await hooks.ask(endpoint, namespace, {})
            await providers.value(Source(url=f"{url}/metric", json_path="$.value"), namespace)
    await runner.cleanup()
    assert seen == [""] * 4


async def test_servers_of_one_team_that_do_not_answer_keep_none_of_another_from_being_asked() -> None:
    waiting = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/tarpit":
            await waiting.wait()
        return web.json_response({"value": 1})

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    egress = EgressPolicy(allowed=(ip_network("127.0.0.0/8"),))

    def endpoint(path: str) -> WebhookEndpoint:
        return WebhookEndpoint(url=f"{url}/{path}", timeout=timedelta(seconds=30), secret_name=None)

    async with HttpWebhooks(no_secrets, egress) as hooks, MetricProviders(no_secrets, egress) as providers:
        source = Source(url=f"{url}/tarpit", json_path="$.value")
        asked: list[Any] = [hooks.ask(endpoint("tarpit"), "team-a", {}) for _ in range(150)]
        asked += [providers.value(source, "team-a") for _ in range(150)]
        tarpits = [asyncio.create_task(one) for one in asked]
        await asyncio.sleep(0.5)
        async with asyncio.timeout(10):
            assert (await hooks.ask(endpoint("gate"), "team-b", {})).is_open
            assert await providers.value(Source(url=f"{url}/metric", json_path="$.value"), "team-b") == 1
        waiting.set()
        for task in tarpits:
            task.cancel()
        await asyncio.gather(*tarpits, return_exceptions=True)
    await runner.cleanup()
