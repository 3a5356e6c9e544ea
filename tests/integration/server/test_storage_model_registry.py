"""`model-registry://` URIs, over the documents of Kubeflow's own client, and a server that answers what it likes."""

from __future__ import annotations

import asyncio

import boto3
import pytest
from model_registry import ModelRegistry
from model_registry_server import running
from moto.server import ThreadedMotoServer

from model_server.errors import StartError
from model_server.settings import Settings
from model_server.storage import fetch, fingerprint, version_of
from model_server.storage.pinned import pinned_uri

MODEL = bytes(range(256)) * 500
NEWEST = "model-registry://wine"


@pytest.fixture(scope="module")
def bucket():
    """A bucket with a model; the credentials that lead there."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    client = boto3.client("s3", endpoint_url=keys["AWS_ENDPOINT_URL"], aws_access_key_id="k", aws_secret_access_key="s")
    client.create_bucket(Bucket="models")
    client.put_object(Bucket="models", Key="wine/7/model.onnx", Body=MODEL)
    client.close()
    yield keys
    server.stop()


@pytest.fixture
def registry():
    with running() as registry:
        yield registry


def get(uri, into, environ):
    return fetch(uri, into, environ=environ, report=lambda _: None)


def at(registry, **more):
    return {"MODEL_REGISTRY_URL": registry.url + "/", **more}


@pytest.mark.parametrize("api", ["v1", "v1alpha3"])
@pytest.mark.parametrize("place", ["s3://models/wine/7", "s3://models/wine/7/model.onnx"])
def test_what_is_registered_is_fetched_where_it_lies(tmp_path, bucket, api, place):
    with running(api=api) as registry:
        registry.register("wine", "2.0.0", place)
        fetched = get(NEWEST, tmp_path, at(registry) | bucket)
        assert (fetched / "model.onnx").read_bytes() == MODEL
        assert version_of(NEWEST, fetched) == "2.0.0"
        assert get("model-registry://wine/2.0.0", tmp_path / "again", at(registry) | bucket).name == "2.0.0"
        assert fingerprint(NEWEST, environ=at(registry)).startswith("2.0.0-")


def test_what_kubeflows_own_client_registers_is_found(registry, monkeypatch):
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", "/dev/null")
    address, _, port = registry.url.rpartition(":")
    # With a loop of its own, which is closed: else it patches asyncio for the whole process.
    with asyncio.Runner() as loop:

        def run(coroutine):
            return loop.run(coroutine)

        client = ModelRegistry(address, int(port), author="Ada", is_secure=False, user_token="t", async_runner=run)
        for version in ("1", "2"):
            client.register_model(
                "wine",
                f"s3://models/wine/{version}",
                version=version,
                model_format_name="onnx",
                model_format_version="1",
            )
    seen = fingerprint(NEWEST, environ=at(registry))
    assert seen.startswith("2-")
    assert fingerprint("model-registry://wine/2", environ=at(registry)) == seen
    assert fingerprint("model-registry://wine/1", environ=at(registry)).startswith("1-")


def test_the_newest_version_that_is_live_counts_on_whatever_page(registry):
    registry.page_size = 2
    for number in range(5):
        registry.register("wine", f"v{number}", "s3://models/x", state="LIVE" if number < 2 else "ARCHIVED")
    registry.register("beer", "v9", "s3://models/x")
    assert fingerprint(NEWEST, environ=at(registry)).startswith("v1-")
    registry.versions[3]["state"] = "LIVE"
    assert fingerprint(NEWEST, environ=at(registry)).startswith("v3-")


def test_a_version_is_another_one_by_where_it_lies_and_not_by_what_is_written_on_it(registry):
    version = registry.register("wine", "1", "s3://models/a")
    usual = fingerprint(NEWEST, environ=at(registry))
    text = {"string_value": "b", "metadataType": "MetadataStringValue"}
    version.update(description="better", lastUpdateTimeSinceEpoch="9", customProperties={"a": text})
    assert fingerprint(NEWEST, environ=at(registry)) == usual
    registry.artifacts[0]["uri"] = "s3://models/b"
    moved = fingerprint(NEWEST, environ=at(registry))
    registry.add(registry.artifacts, {"uri": "s3://models/b", "artifactType": "model-artifact", "of": version["id"]})
    assert len({usual, moved, fingerprint(NEWEST, environ=at(registry))}) == 3


def test_documents_and_data_sets_beside_the_model_are_passed_over(registry):
    version = registry.register("wine", "1", "s3://models/a")
    before = fingerprint(NEWEST, environ=at(registry))
    for kind, more in (("doc-artifact", {}), ("dataset-artifact", {}), ("model-artifact", {"state": "DELETED"})):
        registry.add(registry.artifacts, {"uri": "s3://x/y", "artifactType": kind, "of": version["id"], **more})
    assert fingerprint(NEWEST, environ=at(registry)) == before


def test_a_token_is_sent_and_a_missing_one_is_named():
    with running(token="t0ken") as registry:
        registry.register("wine", "1", "s3://models/a")
        assert fingerprint(NEWEST, environ=at(registry, MODEL_REGISTRY_TOKEN="t0ken\n"))
        with pytest.raises(StartError, match="refused a request without credentials") as refused:
            fingerprint(NEWEST, environ=at(registry))
    assert refused.value.reason == "ArtifactAccessDenied"
    assert "MODEL_REGISTRY_TOKEN" in refused.value.hint


DEEP = b'{"id": ' + b"[" * 100_000


@pytest.mark.parametrize(
    ("says", "reason", "error"),
    [
        pytest.param({"registered_model": (200, b"<html>")}, "StorageUnavailable", "no answer of", id="a login page"),
        pytest.param({"registered_model": (200, DEEP)}, "StorageUnavailable", "no answer of", id="without an end"),
        pytest.param({"registered_model": (200, b'{"id": "../1"}')}, "StorageUnavailable", "no answer", id="a path"),
        pytest.param({"registered_model": (404, b"<html>")}, "StorageUnavailable", "no answer of", id="another server"),
        pytest.param({"registered_model": (200, b" " * 5 * 2**20)}, "ArtifactTooLarge", "more than", id="megabytes"),
        pytest.param(
            {"versions": (200, b'{"items": [], "nextPageToken": "x"}')},
            *("StorageUnavailable", "more than 2000 versions"),
            id="pages without an end",
        ),
        pytest.param(
            {"versions": (200, b'{"items": [{"id": "1", "name": "../../evil"}]}')},
            *("ArtifactNotFound", "no name of a file"),
            id="a version that is a path",
        ),
        pytest.param({"artifacts": (200, b'{"items": []}')}, "ArtifactNotFound", "no artifact", id="no artifact"),
        pytest.param(
            {"artifacts": (200, b'{"items": [{"id": "1"}]}')}, "ArtifactNotFound", "without a URI", id="no URI"
        ),
        *(
            pytest.param(
                {"artifacts": (200, f'{{"items": [{{"id": "1", "uri": "{uri}"}}]}}'.encode())},
                *("SettingsInvalid", f"keeps this version at {uri.partition(':')[0]}:, which no other"),
                id=uri,
            )
            for uri in ("file:///etc", "pvc://secrets/x", "models:/wine/7", "model-registry://wine", "http://host/x")
        ),
    ],
)
def test_whatever_a_registry_answers_the_error_says_what_is_wrong(registry, tmp_path, says, reason, error):
    registry.register("wine", "1", "s3://models/a")
    registry.says = says
    with pytest.raises(StartError, match=error) as failed:
        get(NEWEST, tmp_path, at(registry))
    assert failed.value.reason == reason


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("model-registry://beer", "has no model 'beer'"),
        ("model-registry://beer/1", "has no model 'beer'"),
        ("model-registry://wine/2", "has no version '2' of the model 'wine'"),
        ("model-registry://empty", "has no live version of the model 'empty'"),
        ("model-registry://", "names no version of a registered model"),
        ("model-registry://host:8080/wine/1", "names no version of a registered model"),
        ("model-registry://wine/a b", "names no version of a registered model"),
        ("model-registry://wine/..", "names no version of a registered model"),
        ("model-registry://wine@champion", "names no version of a registered model"),
    ],
)
def test_what_nobody_registered_is_named(registry, uri, says):
    registry.register("wine", "1", "s3://models/a")
    registry.register("empty", "1", "s3://models/a", state="ARCHIVED")
    with pytest.raises(StartError, match=says) as failed:
        fingerprint(uri, environ=at(registry))
    assert failed.value.hint


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "MODEL_REGISTRY_URL is not set"),
        ({"MODEL_REGISTRY_URL": "localhost:8080"}, "'localhost:8080', which is no plain web address"),
        ({"MODEL_REGISTRY_URL": "https://ada:secret@host"}, "'https://host', which is no plain web address"),
        ({"MODEL_REGISTRY_URL": "https://host", "MODEL_REGISTRY_TOKEN": "a\nb"}, "characters that no token has"),
    ],
)
def test_an_address_that_is_none_is_refused_without_a_secret(environ, says):
    with pytest.raises(StartError, match=says) as failed:
        fingerprint(NEWEST, environ=environ)
    assert failed.value.reason == "SettingsInvalid"
    assert "secret" not in failed.value.message


@pytest.mark.parametrize(
    ("uri", "versions", "loaded"),
    [
        pytest.param(NEWEST, "r1 2.0.0\n", "model-registry://wine/2.0.0", id="the version that the revision is of"),
        pytest.param(NEWEST, "r2 2.0.0\n", NEWEST, id="another revision's counts for nothing"),
        pytest.param(NEWEST, "r1 ../3\n", NEWEST, id="a path is no version"),
        pytest.param("model-registry://wine/1", "r1 3\n", "model-registry://wine/1", id="a version needs none"),
    ],
)
def test_a_revision_of_a_model_keeps_its_version(tmp_path, uri, versions, loaded):
    file = tmp_path / "versions"
    file.write_text(versions)
    assert pinned_uri(Settings(storage_uri=uri, revision="r1", registered_versions=file)) == loaded
