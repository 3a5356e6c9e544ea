"""Web hooks over real HTTP: what opens a gate, what a notice carries, and what never gets into a message."""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from aiohttp import web

from model_operator.api.hooks import WebhookEndpoint
from model_operator.clients.egress import EgressPolicy
from model_operator.clients.webhooks import HttpWebhooks
from model_operator.errors import ApiError, ProviderError

ON_LOOPBACK = EgressPolicy(allowed=[ip_network("127.0.0.0/8")])
SECRETS = {
    "slack": {"url": ""},  # the fixture fills in where the server is
    "bearer": {"token": "s3cret\n"},
    "other": {"user": "x"},
}


class Receiver:
    """Answers as its path says, and remembers what came."""

    def __init__(self) -> None:
        self.url = ""
        self.came: list[tuple[Any, Mapping[str, str]]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.came.append((await request.json(), request.headers))
        kind = request.match_info["kind"]
        if kind == "redirect":
            raise web.HTTPFound("/yes")
        if kind == "no":
            return web.json_response({"message": "the change window opens at eight"}, status=403)
        return web.Response(status=500 if kind == "broken" else 204, text="x" * 10_000 if kind == "broken" else None)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{kind}", receiver.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield receiver
    await runner.cleanup()


@pytest.fixture
async def hooks(receiver: Receiver) -> AsyncIterator[HttpWebhooks]:
    async def read_secret(namespace: str, name: str) -> Mapping[str, str]:
        if name not in SECRETS:
            raise ApiError(404, "NotFound", f"secrets {name!r} not found")
        return {"url": f"{receiver.url}/yes"} if name == "slack" else SECRETS[name]

    async with HttpWebhooks(read_secret, ON_LOOPBACK) as client:
        yield client


def at(url: str, secret: str | None = None) -> WebhookEndpoint:
    return WebhookEndpoint(url=url, timeout=timedelta(seconds=5), secret_name=secret)


@pytest.mark.parametrize(
    ("kind", "is_open", "message"),
    [
        pytest.param("yes", True, "open", id="2xx says yes"),
        pytest.param("no", False, "answered 403", id="a no, of whose words nothing is shown"),
        pytest.param("broken", False, "answered 500", id="a broken gate is closed"),
        pytest.param("redirect", False, "answered 302", id="a redirect is no yes"),
    ],
)
async def test_a_gate_is_open_when_it_says_so(
    hooks: HttpWebhooks, receiver: Receiver, kind: str, is_open: bool, message: str
) -> None:
    answer = await hooks.ask(at(f"{receiver.url}/{kind}"), "ml", {"name": "fraud"})
    assert (answer.is_open, answer.message) == (is_open, message)
    assert [body for body, _ in receiver.came] == [{"name": "fraud"}]


async def test_a_gate_that_is_not_there_is_closed_and_its_address_stays_secret(hooks: HttpWebhooks) -> None:
    answer = await hooks.ask(at("http://127.0.0.1:1/secret-path"), "ml", {})
    assert not answer.is_open
    assert "cannot be reached" in answer.message
    assert "secret-path" not in answer.message


async def test_the_address_may_be_in_a_secret(hooks: HttpWebhooks, receiver: Receiver) -> None:
    await hooks.notify(at("", "slack"), "ml", {"text": "hello"})
    assert [body for body, _ in receiver.came] == [{"text": "hello"}]


async def test_a_token_is_sent(hooks: HttpWebhooks, receiver: Receiver) -> None:
    await hooks.notify(at(f"{receiver.url}/yes", "bearer"), "ml", {})
    ((_, headers),) = receiver.came
    assert headers["Authorization"] == "Bearer s3cret"


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        pytest.param("other", "needs url, token, or username and password; its keys are: user", id="other keys"),
        pytest.param("absent", "it does not exist", id="no Secret"),
    ],
)
async def test_a_wrong_secret_says_what_it_needs(
    hooks: HttpWebhooks, receiver: Receiver, secret: str, said: str
) -> None:
    with pytest.raises(ProviderError, match=said):
        await hooks.notify(at(f"{receiver.url}/yes", secret), "ml", {})


async def test_a_notice_that_nobody_takes_is_an_error(hooks: HttpWebhooks, receiver: Receiver) -> None:
    with pytest.raises(ProviderError, match="answered 403"):
        await hooks.notify(at(f"{receiver.url}/no"), "ml", {})
