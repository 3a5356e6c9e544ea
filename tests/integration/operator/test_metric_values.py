"""Numbers from a real Prometheus, from web services and from Datadog's API; any other answer is an error."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from free_ports import free_port
from waiting import eventually

from model_operator.api.analysis import PROVIDERS, DatadogSource, Source
from model_operator.api.values import replace
from model_operator.clients.egress import EgressPolicy
from model_operator.clients.metric_providers import factory
from model_operator.clients.metric_providers.datadog import DatadogProvider, last_point
from model_operator.clients.metric_providers.factory import MetricProviders
from model_operator.clients.metric_providers.prometheus import result_of
from model_operator.clients.metric_providers.provider import JsonSession, Secret
from model_operator.clients.metric_providers.web import number_at
from model_operator.errors import ApiError, ProviderError

CONFIG = "global: {scrape_interval: 1s}\nscrape_configs: [{job_name: itself, static_configs: [{targets: [%s]}]}]\n"

ON_LOOPBACK = EgressPolicy(allowed=[ip_network("127.0.0.0/8")])


SECRETS = {
    "bearer": {"token": "abc\n"},
    "basic": {"username": "ann", "password": "pw"},
    "empty": {"user": "ann"},
}


async def read_secret(namespace: str, name: str) -> Mapping[str, str]:
    assert namespace == "team"
    if name == "forbidden":
        raise ApiError(403, "Forbidden", "secrets is forbidden")
    if name not in SECRETS:
        raise ApiError(404, "NotFound", "no such Secret")
    return SECRETS[name]


@pytest.fixture
async def values() -> AsyncIterator[MetricProviders]:
    async with MetricProviders(read_secret, ON_LOOPBACK) as values:
        yield values


@pytest.fixture
async def prometheus(tmp_path: Path) -> AsyncIterator[str]:
    """A Prometheus that scrapes itself."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "prometheus.yml").write_text(CONFIG % f"'{address}'")
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=error",
    )
    try:
        async with ClientSession() as session:
            await eventually(lambda: scraped(session, address), "Prometheus has scraped itself", seconds=60)
        yield f"http://{address}"
    finally:
        process.terminate()
        await process.wait()


async def scraped(session: ClientSession, address: str) -> bool:
    try:
        async with session.get(f"http://{address}/api/v1/query", params={"query": "up"}) as response:
            return response.status == 200 and bool((await response.json())["data"]["result"])
    except OSError:
        return False


async def test_prometheus_gives_one_number_or_the_reason_why_not(prometheus: str, values: MetricProviders) -> None:
    source = Source(url=prometheus, query="sum(up)")
    assert await values.value(source, "team") == 1.0
    assert await values.value(replace(source, query="scalar(sum(up))"), "team") == 1.0
    assert await values.value(replace(source, query="sum(nothing_of_this_name)"), "team") is None
    assert await values.value(replace(source, query="0 / 0"), "team") is None
    for query, why in (
        ('"text"', "returns a string, but must return a single number"),
        ("up[1m]", "returns a matrix, but must return a single number"),
        ("prometheus_http_requests_total or up", "series, but must return one; aggregate them, as in sum"),
        ("sum(", "answered 400"),
    ):
        with pytest.raises(ProviderError, match=why.replace("(", r"\(")):
            await values.value(replace(source, query=query), "team")


@pytest.fixture
async def hook() -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """A web hook, and what it shall answer."""
    answer: dict[str, Any] = {"status": 200, "text": '{"value": 0.25}', "wait": 0.0}

    async def tell(request: web.Request) -> web.Response:
        answer["authorization"] = request.headers.get("Authorization")
        await asyncio.sleep(answer["wait"])
        return web.Response(status=answer["status"], text=answer["text"], content_type="application/json")

    app = web.Application()
    app.router.add_get("/", tell)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}/", answer
    await runner.cleanup()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param({"status": 503, "text": '{"error": "busy"}'}, "answered 503", id="an error"),
        pytest.param({"text": "no JSON"}, "answered 200 with something that is no JSON", id="no JSON"),
        pytest.param({"text": '{"other": 1}'}, "has no value at \\$.value", id="nothing at the path"),
        pytest.param({"text": '{"value": "many"}'}, "the answer has a text where a number is needed", id="a word"),
        pytest.param({"text": '{"value": [1]}'}, "the answer has a list where", id="a list"),
        pytest.param({"text": '{"value": {}}'}, "the answer has an object where", id="an object"),
        pytest.param({"text": '{"value": true}'}, "the answer has true or false where", id="true"),
        pytest.param({"text": '{"value": "+Inf"}'}, "the answer has an infinite number", id="infinity"),
        pytest.param({"text": '{"value": 1e999}'}, "answered 200 with something that is no JSON", id="by overflow"),
        pytest.param({"text": "[" * 100_000}, "answered 200 with something that is no JSON", id="deep"),
        pytest.param({"text": "[1]"}, "has no value at \\$.value", id="a list of values"),
        pytest.param({"text": '"' + "x" * 2**20}, "answered with more than 1 MiB; one number is needed", id="too much"),
        pytest.param({"wait": 2.0}, "did not answer within 0.2 s", id="silence"),
    ],
)
async def test_a_web_hook_that_gives_no_number_is_told(
    hook: tuple[str, dict[str, Any]], values: MetricProviders, answer: dict[str, Any], why: str
) -> None:
    url, given = hook
    source = Source(url=url, timeout=timedelta(seconds=0.2 if "wait" in answer else 5))
    given.update(answer)
    with pytest.raises(ProviderError, match=why):
        await values.value(source, "team")


async def test_a_web_hook_gives_a_number(hook: tuple[str, dict[str, Any]], values: MetricProviders) -> None:
    url, given = hook
    assert await values.value(Source(url=url), "team") == 0.25
    given["text"] = '{"data": [{"rate": "0.5"}], "value": null}'
    assert await values.value(Source(url=url, json_path="$.data[0].rate"), "team") == 0.5
    assert await values.value(Source(url=url), "team") is None


@pytest.mark.parametrize(
    ("secret", "header"),
    [
        pytest.param(None, None, id="none without a Secret"),
        pytest.param("bearer", "Bearer abc", id="a token"),
        pytest.param("basic", "Basic YW5uOnB3", id="a name and a password"),
    ],
)
async def test_credentials_come_from_the_secret(
    hook: tuple[str, dict[str, Any]], values: MetricProviders, secret: str | None, header: str | None
) -> None:
    url, given = hook
    await values.value(Source(url=url, secret_name=secret), "team")
    assert given["authorization"] == header


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        pytest.param("missing", "Secret missing: it does not exist", id="no such Secret"),
        pytest.param(
            "forbidden",
            "make a Role in namespace team with the verb get on the Secret forbidden",
            id="no right to read it",
        ),
        pytest.param("empty", "needs the key token, or username and password; its keys are: user", id="other keys"),
    ],
)
async def test_a_secret_that_does_not_help_is_told(values: MetricProviders, secret: str, why: str) -> None:
    with pytest.raises(ProviderError, match=why):
        await values.value(Source(url="http://127.0.0.1:1/", secret_name=secret), "team")


async def test_nobody_there_is_told(values: MetricProviders) -> None:
    with pytest.raises(ProviderError, match="cannot be reached"):
        await values.value(Source(url=f"http://127.0.0.1:{free_port()}/"), "team")


def test_a_path_leads_through_objects_and_lists() -> None:
    assert number_at({"a": [{"b": 3}]}, "$.a[0].b") == 3.0
    assert number_at(7, "$") == 7.0


KEYS = {"api-key": "abc\n", "app-key": "def"}
NOON = 1_764_331_200
LOAD = DatadogSource(query="avg:load{*}", secret_name="datadog", interval=timedelta(minutes=2))


def points(*series: list[list[float | None]]) -> dict[str, Any]:
    """An answer of `GET /api/v1/query`, as Datadog documents it."""
    return {
        "status": "ok",
        "res_type": "time_series",
        "from_date": NOON * 1000,
        "to_date": NOON * 1000,
        "query": "avg:load{*}",
        "message": "",
        "series": [{"metric": "load", "scope": "*", "interval": 60, "pointlist": pointlist} for pointlist in series],
    }


@pytest.fixture
async def datadog() -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """An API that takes two keys, and what it shall answer."""
    given: dict[str, Any] = {"status": 200, "body": points()}

    async def query(request: web.Request) -> web.Response:
        keys = (request.headers.get("DD-API-KEY"), request.headers.get("DD-APPLICATION-KEY"))
        if keys != ("abc", "def"):
            return web.json_response({"errors": ["Forbidden"]}, status=403)
        given["asked"] = dict(request.query)
        return web.json_response(given["body"], status=given["status"])

    app = web.Application()
    app.router.add_get("/api/v1/query", query)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}", given
    await runner.cleanup()


async def ask_datadog(address: str, keys: Mapping[str, str] = KEYS) -> float | None:
    async with ClientSession() as session:
        provider = DatadogProvider(JsonSession(session, ON_LOOPBACK), address=address, now=lambda: NOON)
        return await provider.value(LOAD, Secret("datadog", keys))


@pytest.mark.parametrize(
    ("body", "value"),
    [
        pytest.param(points(), None, id="no series"),
        pytest.param(points([]), None, id="no points"),
        pytest.param(points([[1.0, 0.5], [2.0, 0.25]]), 0.25, id="the last point"),
        pytest.param(points([[1.0, 0.5], [2.0, None]]), 0.5, id="the last point that has a value"),
        pytest.param(points([[1.0, None]]), None, id="no values"),
    ],
)
async def test_datadog_gives_its_last_point(
    datadog: tuple[str, dict[str, Any]], body: dict[str, Any], value: float | None
) -> None:
    address, given = datadog
    given["body"] = body
    assert await ask_datadog(address) == value
    assert given["asked"] == {"query": "avg:load{*}", "from": str(NOON - 120), "to": str(NOON)}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param({"body": points([[1.0, 1.0]], [[1.0, 2.0]])}, "returns 2 series", id="two series"),
        pytest.param({"body": {"status": "error", "error": "Rule 'a' is bad"}}, "the query failed", id="a bad query"),
        pytest.param({"status": 429, "body": {"errors": ["Rate limit"]}}, "answered 429", id="too often"),
        pytest.param({"body": [1]}, "not one of Datadog's query API", id="another API"),
    ],
)
async def test_datadog_that_gives_no_number_is_an_error(
    datadog: tuple[str, dict[str, Any]], answer: dict[str, Any], why: str
) -> None:
    address, given = datadog
    given.update(answer)
    with pytest.raises(ProviderError, match=why):
        await ask_datadog(address)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        pytest.param({"api-key": "abc", "app-key": "other"}, "answered 403", id="a wrong key"),
        pytest.param({"api-key": "abc"}, "needs the key app-key; its keys are: api-key", id="a missing key"),
    ],
)
async def test_datadog_takes_two_keys(datadog: tuple[str, dict[str, Any]], keys: dict[str, str], why: str) -> None:
    address, _ = datadog
    with pytest.raises(ProviderError, match=why):
        await ask_datadog(address, keys)


async def test_every_source_of_a_spec_has_its_provider(values: MetricProviders) -> None:
    assert set(factory.PROVIDERS) == set(PROVIDERS)
    for source in (Source(url="http://127.0.0.1:1/"), Source(url="http://127.0.0.1:1", query="up"), LOAD):
        missing = replace(source, secret_name="missing")
        with pytest.raises(ProviderError, match="Secret missing: it does not exist"):
            await values.value(missing, "team")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"data": {"resultType": "secret " * 1000, "result": []}}, id="a kind of its own"),
        pytest.param({"data": {"resultType": ["matrix"], "result": []}}, id="a list as kind"),
        pytest.param({"data": {"resultType": "vector", "result": {"a": 1}}}, id="an object as result"),
        pytest.param({"data": {"resultType": "vector", "result": [None]}}, id="no series in the list"),
        pytest.param({"data": {"resultType": "vector", "result": [{"value": 1}]}}, id="a number as sample"),
        pytest.param({"data": {"resultType": "vector", "result": 5}}, id="a number as result"),
        pytest.param({"data": {"resultType": "scalar", "result": []}}, id="an empty scalar"),
        pytest.param({"data": [1]}, id="a list as data"),
        pytest.param([], id="another document"),
    ],
)
def test_an_answer_that_prometheus_does_not_give_is_refused_and_not_shown(body: Any) -> None:
    with pytest.raises(ProviderError, match=r"^the response is not one of Prometheus' query API$"):
        result_of(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param([], id="another document"),
        pytest.param({"series": {"a": 1}}, id="an object as series"),
        pytest.param({"series": [1]}, id="a number as series"),
        pytest.param({"series": [{"pointlist": [1]}]}, id="a number as point"),
        pytest.param({"series": [{"pointlist": [[1, 2, 3]]}]}, id="a point of three"),
        pytest.param({"series": 5}, id="a number"),
    ],
)
def test_an_answer_that_datadog_does_not_give_is_refused(body: Any) -> None:
    with pytest.raises(ProviderError, match=r"^the response is not one of Datadog's query API$"):
        last_point(body)
