"""Verdicts on their way into a registry: over real HTTP, through outages, and past an operator that dies."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_network

import pytest
from aiohttp import web
from decision_tables import HEALTHY, resource
from rollout_actions import annotate, at_phase, canary, live
from rollout_world import World

from model_operator.api.hooks import WebhookEndpoint
from model_operator.api.resource import ObjectKey
from model_operator.api.source import VersionTags
from model_operator.api.status import ModelInfo
from model_operator.clients.egress import EgressPolicy
from model_operator.clients.metrics_page import Sample
from model_operator.clients.registries import HttpRegistries
from model_operator.engine.registry_writer import RegistryWriter
from model_operator.errors import ApiError, ProviderError

ON_LOOPBACK = EgressPolicy(allowed=[ip_network("127.0.0.0/8")])
ALIAS = "models:/wine@champion"
SECRETS = {
    "user": {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "p:w\n"},
    "token": {"MLFLOW_TRACKING_TOKEN": "t0ken\n"},
    "other": {"token": "x"},
}
WANTED = VersionTags(name="wine", version="7", tags={"a": "1", "b": "2", "c": "3"})


class Registry:
    """MLflow's answers for model versions. `survives` is how many tags it takes before it answers 503."""

    def __init__(self) -> None:
        self.url = ""
        self.tags: dict[str, dict[str, str]] = {"1": {}, "2": {}, "7": {}}
        self.posts: list[dict[str, str]] = []
        self.headers: Mapping[str, str] = {}
        self.survives = 1000
        self.says: tuple[int, str] | None = None

    async def get(self, request: web.Request) -> web.Response:
        self.headers = request.headers
        if self.says:
            return web.Response(status=self.says[0], text=self.says[1])
        version = request.query["version"]
        if version not in self.tags:
            return web.json_response({"error_code": "RESOURCE_DOES_NOT_EXIST"}, status=404)
        tags = [{"key": key, "value": value} for key, value in self.tags[version].items()]
        return web.json_response({"model_version": {"name": "wine", "version": version, "tags": tags}})

    async def post(self, request: web.Request) -> web.Response:
        if self.survives <= 0:
            return web.Response(status=503)
        self.survives -= 1
        body = await request.json()
        self.posts.append(body)
        self.tags[body["version"]][body["key"]] = body["value"]
        return web.json_response({})


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    registry, app = Registry(), web.Application()
    app.router.add_get("/api/2.0/mlflow/model-versions/get", registry.get)
    app.router.add_post("/api/2.0/mlflow/model-versions/set-tag", registry.post)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    registry.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield registry
    await runner.cleanup()


async def read_secret(namespace: str, name: str) -> Mapping[str, str]:
    if name == "forbidden":
        raise ApiError(403, "Forbidden", 'secrets "forbidden" is forbidden: User "system:operator" cannot get it')
    return SECRETS[name]


@pytest.fixture
async def client() -> AsyncIterator[HttpRegistries]:
    async with HttpRegistries(read_secret, ON_LOOPBACK) as client:
        yield client


def at(url: str, secret: str | None = None) -> WebhookEndpoint:
    return WebhookEndpoint(url=url, timeout=timedelta(seconds=5), secret_name=secret)


async def test_what_is_there_already_is_not_written_again(client: HttpRegistries, registry: Registry) -> None:
    registry.tags["7"] = {"a": "1", "b": "old", "mine": "stays"}
    await client.write(at(registry.url), "ml", WANTED)
    assert [(body["key"], body["value"]) for body in registry.posts] == [("b", "2"), ("c", "3")]
    assert registry.tags["7"] == {**WANTED.tags, "mine": "stays"}
    await client.write(at(registry.url), "ml", WANTED)
    assert len(registry.posts) == 2


async def test_a_version_that_was_deleted_needs_no_tags(client: HttpRegistries, registry: Registry) -> None:
    await client.write(at(registry.url), "ml", VersionTags(name="wine", version="99", tags={"a": "1"}))
    assert not registry.posts


@pytest.mark.parametrize(("secret", "header"), [("user", "Basic YWRhOnA6dw=="), ("token", "Bearer t0ken")])
async def test_credentials_have_mlflows_names(
    client: HttpRegistries, registry: Registry, secret: str, header: str
) -> None:
    await client.write(at(registry.url, secret), "ml", WANTED)
    assert registry.headers["Authorization"] == header


@pytest.mark.parametrize(
    ("says", "error"),
    [
        pytest.param((401, "no"), "answered 401: the user needs the permission EDIT", id="a wrong password"),
        pytest.param((403, "secret words"), "answered 403: the user needs the permission EDIT", id="only to read"),
        pytest.param((404, "<html>"), "is no registry of MLflow", id="a page that does not exist"),
        pytest.param((404, "{}"), "answered 404", id="another API"),
        pytest.param((200, "<html>login</html>"), "is no registry of MLflow", id="a login page"),
        pytest.param((200, "[" * 100_000), "is no registry of MLflow", id="an answer without an end"),
        pytest.param((200, '{"model_version": {"tags": 7}}'), "is no registry of MLflow", id="tags that are none"),
        pytest.param((302, ""), "answered 302", id="a redirect is not followed"),
        pytest.param((500, ""), "answered 500", id="a failure"),
    ],
)
async def test_a_registry_that_does_not_take_it_is_an_error_without_its_words(
    client: HttpRegistries, registry: Registry, says: tuple[int, str], error: str
) -> None:
    registry.says = says
    with pytest.raises(ProviderError, match=error) as failed:
        await client.write(at(registry.url), "ml", WANTED)
    assert "words" not in str(failed.value)


@pytest.mark.parametrize(
    ("address", "error"),
    [
        (at("http://127.0.0.1:1"), "cannot be reached"),
        (at("", "user"), "no address of the registry"),
        (at("http://127.0.0.1:1", "other"), "Secret other needs MLFLOW_TRACKING_USERNAME"),
        (at("http://127.0.0.1:1", "forbidden"), "make a Role in namespace ml"),
    ],
)
async def test_an_address_or_a_secret_that_is_wrong_is_named(
    client: HttpRegistries, address: WebhookEndpoint, error: str
) -> None:
    with pytest.raises(ProviderError, match=error):
        await client.write(address, "ml", WANTED)


async def test_an_address_that_users_may_not_reach_is_refused(registry: Registry) -> None:
    async with HttpRegistries(read_secret, EgressPolicy()) as client:
        with pytest.raises(ProviderError, match="not for users to reach"):
            await client.write(at(registry.url), "ml", WANTED)
    assert not registry.headers


async def served(world: World, url: str) -> ObjectKey:
    """A model from an alias, whose first revision serves version 1."""
    key = await live(world, canary(routing=False))
    model = {"storageUri": ALIAS, "pollInterval": "30s", "registry": {"url": url}}
    world.cluster.change(key, lambda body: body["spec"].update(model=model, hooks={"registry": {}}))
    await world.run(key)
    await says(world, key, world.status(key)["stableRevision"], version="1")
    return key


async def says(world: World, key: ObjectKey, revision: str, *, version: str, changed: str = "") -> None:
    model = ModelInfo(uri=ALIAS, version=version, format="onnx", sha256=version)
    world.pods.samples[revision] = Sample(model=model, requests=0, errors=0, changed_fingerprint=changed)
    world.clock.advance(timedelta(seconds=31))
    world.sync()
    await world.evidence.poll()
    await world.operate(key)


async def moved_and_aborted(world: World, key: ObjectKey) -> str:
    """Move the alias to version 2, which never loads, and give it up; return its revision."""
    await says(world, key, world.status(key)["stableRevision"], version="1", changed="2-13d7e7aba2461053")
    revision = str(world.status(key)["canaryRevision"])
    annotate(world, key, "abort", revision)
    await world.run(key, until=at_phase("Degraded"))
    return revision


def writer(world: World, client: HttpRegistries) -> RegistryWriter:
    return RegistryWriter(world.cache, client, world.recorder, world.clock)


async def test_each_version_has_the_verdict_of_its_rollout(client: HttpRegistries, registry: Registry) -> None:
    world = World()
    key = await served(world, registry.url)
    writing = writer(world, client)
    await writing.poll()
    assert registry.tags["1"]["modeldeploy.status"] == "promoted"
    revision = await moved_and_aborted(world, key)
    await writing.poll()
    tags = registry.tags["2"]
    assert (tags["modeldeploy.status"], tags["modeldeploy.revision"]) == ("aborted", revision)
    assert tags["modeldeploy.reason"] == world.status(key)["history"][0]["reason"]
    before = len(registry.posts)
    await writing.poll()
    assert len(registry.posts) == before, "what is written is not written again"


@pytest.mark.parametrize("deaths", range(0, 12, 2))
async def test_whoever_dies_between_two_writes_the_tags_end_right(
    client: HttpRegistries, registry: Registry, deaths: int
) -> None:
    world = World()
    key = await served(world, registry.url)
    await moved_and_aborted(world, key)
    registry.survives = deaths
    await writer(world, client).poll()
    assert len(registry.posts) == deaths
    registry.survives = 1000
    await writer(world, client).poll()
    statuses = [registry.tags[version]["modeldeploy.status"] for version in ("1", "2")]
    assert statuses == ["promoted", "aborted"]
    assert len(registry.posts) == 12, "no tag is written twice"


async def test_an_outage_is_told_and_the_verdict_follows_later(client: HttpRegistries, registry: Registry) -> None:
    world = World()
    await served(world, registry.url)
    registry.survives = 0
    writing = writer(world, client)
    await writing.poll()
    with suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await world.recorder.run()
    events = [event["message"] for event in world.cluster.events if event["reason"] == "VerdictNotWritten"]
    assert events == ["the verdict on version 1 of wine is not written: the registry answered 503"]
    registry.survives = 1000
    await writing.poll()
    assert not registry.posts, "it is tried again after a while"
    world.clock.advance(timedelta(seconds=16))
    await writing.poll()
    assert registry.tags["1"]["modeldeploy.status"] == "promoted"


async def test_nothing_is_written_where_nobody_asked_for_it(client: HttpRegistries, registry: Registry) -> None:
    world = World()
    key = await served(world, registry.url)
    world.cluster.change(key, lambda body: body["spec"].pop("hooks"))
    world.sync()
    await writer(world, client).poll()
    assert not registry.headers


def test_the_hook_makes_no_other_pods() -> None:
    assert resource(HEALTHY, hooks={"registry": {"url": "https://m"}}).target == resource(HEALTHY).target
