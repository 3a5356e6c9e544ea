"""Verdicts on their way into Kubeflow's Model Registry, in the documents of its own client."""

from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import timedelta
from ipaddress import ip_network

import pytest
from model_registry_server import Registry, running

from model_operator.api.hooks import WebhookEndpoint
from model_operator.api.source import VersionTags
from model_operator.api.values import replace
from model_operator.clients.egress import EgressPolicy
from model_operator.clients.registries import HttpRegistries
from model_operator.errors import ProviderError

ON_LOOPBACK = EgressPolicy(allowed=[ip_network("127.0.0.0/8")])
WANTED = VersionTags(name="wine", version="2.0", tags={"a": "1", "b": "2"}, registry="kubeflow")


async def read_secret(namespace: str, name: str) -> Mapping[str, str]:
    return {"writer": {"MODEL_REGISTRY_TOKEN": "t0ken\n"}, "other": {"token": "x"}}[name]


@pytest.fixture
async def client() -> AsyncIterator[HttpRegistries]:
    async with HttpRegistries(read_secret, ON_LOOPBACK) as client:
        yield client


@pytest.fixture(params=["v1", "v1alpha3"])
def registry(request: pytest.FixtureRequest) -> Iterator[Registry]:
    with running(api=request.param) as registry:
        registry.register("wine", "1.0", "s3://models/1")
        registry.register("wine", "2.0", "s3://models/2")
        registry.register("beer", "2.0", "s3://models/3")
        yield registry


def at(url: str, secret: str | None = None) -> WebhookEndpoint:
    return WebhookEndpoint(url=url, timeout=timedelta(seconds=5), secret_name=secret)


async def test_properties_of_others_stay(client: HttpRegistries, registry: Registry) -> None:
    others = {
        "accuracy": {"double_value": 0.91, "metadataType": "MetadataDoubleValue"},
        "rows": {"int_value": "12", "metadataType": "MetadataIntValue"},
        "b": {"string_value": "old", "metadataType": "MetadataStringValue"},
    }
    registry.versions[1]["customProperties"] = others
    await client.write(at(registry.url), "ml", WANTED)
    written = registry.versions[1]["customProperties"]
    assert {key: value["string_value"] for key, value in written.items() if key in "ab"} == dict(WANTED.tags)
    assert {key: written[key] for key in ("accuracy", "rows")} == {key: others[key] for key in ("accuracy", "rows")}
    assert "customProperties" not in registry.versions[2], "another model's version of this name is left alone"
    await client.write(at(registry.url), "ml", WANTED)
    assert len(registry.patches) == 1, "what is there already is not written again"


@pytest.mark.parametrize("absent", [replace(WANTED, name="cider"), replace(WANTED, version="3.0")])
async def test_what_was_deleted_needs_no_properties(
    client: HttpRegistries, registry: Registry, absent: VersionTags
) -> None:
    await client.write(at(registry.url), "ml", absent)
    assert not registry.patches


async def test_a_token_is_taken_from_the_secret(client: HttpRegistries, registry: Registry) -> None:
    registry.token = "t0ken"
    await client.write(at(registry.url, "writer"), "ml", WANTED)
    assert registry.patches
    with pytest.raises(ProviderError, match="answered 401: the token has to be one that may change the registry"):
        await client.write(at(registry.url), "ml", WANTED)
    with pytest.raises(ProviderError, match="Secret other needs MODEL_REGISTRY_TOKEN; its keys are: token"):
        await client.write(at(registry.url, "other"), "ml", WANTED)
    with pytest.raises(ProviderError, match="or MODEL_REGISTRY_URL into the Secret"):
        await client.write(at("", "writer"), "ml", WANTED)


@pytest.mark.parametrize(
    ("path", "says", "error"),
    [
        pytest.param("registered_model", (200, b"<html>login</html>"), "no registry of Kubeflow", id="a login page"),
        pytest.param("registered_model", (404, b"<html>words</html>"), "no registry of Kubeflow", id="another server"),
        pytest.param("registered_model", (200, b"[" * 100_000), "no registry of Kubeflow", id="without an end"),
        pytest.param("registered_model", (200, b'{"id": "1/../2"}'), "no registry of Kubeflow", id="no id"),
        pytest.param("model_version", (200, b'{"id": "1", "customProperties": 7}'), "no registry", id="no properties"),
        pytest.param("registered_model", (302, b""), "answered 302", id="a redirect is not followed"),
        pytest.param("registered_model", (500, b"words"), "answered 500", id="a failure"),
        pytest.param("model_versions/2", (404, b"words"), "answered 404", id="deleted meanwhile"),
    ],
)
async def test_a_registry_that_does_not_take_it_is_an_error_without_its_words(
    client: HttpRegistries, registry: Registry, path: str, says: tuple[int, bytes], error: str
) -> None:
    registry.says = {path: says}
    with pytest.raises(ProviderError, match=error) as failed:
        await client.write(at(registry.url), "ml", WANTED)
    assert "words" not in str(failed.value)
