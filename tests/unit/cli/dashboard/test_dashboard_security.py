"""Who gets an answer from the dashboard: other sites, other names and other people do not."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from modeldeploy.dashboard.callers import Callers, ReadOnly
from modeldeploy.dashboard.security import HEADERS, Guard, Security, refusal_of
from modeldeploy.kube import Kube

HOST = "127.0.0.1:8765"
LOCAL = Guard(hosts=frozenset({HOST}), token="secret", cookie="modeldeploy-8765")
SESSION = {"host": HOST, "cookie": "other=1; modeldeploy-8765=secret"}
JSON = {**SESSION, "content-type": "application/json"}
SHARED = Guard()


@pytest.mark.parametrize(
    ("guard", "method", "headers", "status"),
    [
        pytest.param(LOCAL, "GET", SESSION, None, id="the session reads"),
        pytest.param(LOCAL, "GET", {**SESSION, "host": "evil.example:8765"}, 421, id="a name that leads to loopback"),
        pytest.param(LOCAL, "GET", {}, 421, id="no host"),
        pytest.param(LOCAL, "GET", {"host": HOST}, 401, id="no session"),
        pytest.param(LOCAL, "GET", {"host": HOST, "cookie": "modeldeploy-8765=guess"}, 401, id="another token"),
        pytest.param(LOCAL, "GET", {"host": HOST, "cookie": "\x00=;;"}, 401, id="a cookie that is none"),
        pytest.param(LOCAL, "POST", {**JSON, "origin": f"http://{HOST}"}, None, id="a page of ours acts"),
        pytest.param(LOCAL, "POST", {**JSON, "sec-fetch-site": "same-origin"}, None, id="so says the browser"),
        pytest.param(LOCAL, "POST", {**JSON, "origin": "http://127.0.0.1:9999"}, 403, id="another port"),
        pytest.param(LOCAL, "POST", {**JSON, "origin": "https://evil.example"}, 403, id="another site"),
        pytest.param(LOCAL, "POST", {**JSON, "origin": "null"}, 403, id="a page of no site"),
        pytest.param(LOCAL, "POST", {**JSON, "sec-fetch-site": "same-site"}, 403, id="a sister of the site"),
        pytest.param(LOCAL, "POST", {**SESSION, "content-type": "text/plain"}, 415, id="what a form can send"),
        pytest.param(SHARED, "GET", {"host": "dashboard.example"}, None, id="in a cluster any host reads"),
        pytest.param(
            SHARED,
            "POST",
            {"host": "dashboard.example", "origin": "https://evil.example", "content-type": "application/json"},
            403,
            id="there too, another site does not act",
        ),
    ],
)
def test_who_gets_an_answer(guard: Guard, method: str, headers: dict[str, str], status: int | None) -> None:
    refusal = refusal_of(guard, method, "/", headers)
    assert (refusal.status if refusal else None) == status


def test_what_shows_nothing_of_a_cluster_needs_no_session() -> None:
    for path in ("/static/dashboard.css", "/healthz"):
        assert refusal_of(LOCAL, "GET", path, {"host": HOST}) is None
        assert refusal_of(LOCAL, "GET", path, {"host": "evil.example"}) is not None


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("in")(scope, receive, send)

    transport = httpx.ASGITransport(Security(inner, LOCAL))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as opened:
        yield opened


async def test_the_link_begins_a_session_that_scripts_and_other_sites_cannot_use(client: httpx.AsyncClient) -> None:
    answer = await client.get("/?token=secret")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert (await client.get("/")).text == "in"


async def test_a_wrong_token_begins_nothing(client: httpx.AsyncClient) -> None:
    answer = await client.get("/?token=guess", headers={"accept": "text/html"})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "Open the link that modeldeploy dashboard has printed" in answer.text


async def test_every_answer_has_the_headers(client: httpx.AsyncClient) -> None:
    for path in ("/", "/?token=secret", "/healthz"):
        answer = await client.get(path)
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert "unsafe-inline" not in HEADERS["Content-Security-Policy"]


class Opened(Kube):
    """A connection that remembers as whom it was opened."""

    def __init__(self, token: str = "") -> None:
        self.token = token

    def with_token(self, token: str) -> "Opened":
        return Opened(token)

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("header", ["", "Basic YTpi", "Bearer", "Bearer a b", "Bearer a\r\nx: y", "Bearer ü"])
def test_in_a_cluster_nobody_acts_without_a_token(header: str) -> None:
    shared = Callers(Opened(), is_shared=True)
    assert not shared.can_act(header)
    with pytest.raises(ReadOnly, match="read-only without a token"), shared.kube_of(header):
        pass


def test_in_a_cluster_the_bearer_acts() -> None:
    kube: Any
    with Callers(Opened(), is_shared=True).kube_of("Bearer abc.def_-=") as kube:
        assert kube.token == "abc.def_-="


def test_on_a_machine_its_user_acts_whatever_a_request_brings() -> None:
    own = Opened("own")
    callers = Callers(own, is_shared=False)
    assert callers.can_act("")
    with callers.kube_of("Bearer other") as kube:
        assert kube is own
