"""`models:/` URIs, over a server that speaks MLflow's API, and one that answers what it likes."""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import boto3
import http_servers
import pytest
from moto.server import ThreadedMotoServer

from model_server.errors import StartError
from model_server.settings import Settings
from model_server.storage import fetch, fingerprint, version_of
from model_server.storage.pinned import pinned_uri
from model_server.storage.registered_files import stored_at

MODEL = bytes(range(256)) * 500
USER = "Basic " + base64.b64encode(b"ada:pass:word").decode()


def version(number="7", **more):
    return {"model_version": {"name": "wine", "version": number, "source": "s", "run_id": "r", **more}}


class Api(http_servers.Handler):
    """What MLflow answers, by path and query; a test replaces some of it. Files are in `data/wine`."""

    answers: ClassVar = {}
    files: ClassVar = {"model.onnx": MODEL, "code/a b.py": b"x = 1", "model.yaml": b"version: 9"}
    wants = ""

    def do_GET(self):
        if self.wants and self.headers.get("authorization") != self.wants:
            return self.answer(b"who?", 401)
        url = urlsplit(self.path)
        query = {key: value[0] for key, value in parse_qs(url.query).items()}
        path = url.path.removeprefix("/prefix/api/2.0/")
        if path.startswith("mlflow-artifacts/artifacts/"):
            name = path.removeprefix("mlflow-artifacts/artifacts/data/wine/").replace("%20", " ")
            return self.answer(self.files[name])
        answer = self.answers.get(path, self.usual(path, query))
        status = answer.pop("error", 200) if isinstance(answer, dict) else 200
        return self.answer(answer if isinstance(answer, bytes) else json.dumps(answer).encode(), status)

    def usual(self, path, query):
        if path == "mlflow/registered-models/alias":
            known = (query["name"], query["alias"]) == ("wine", "champion")
            return version() if known else {"error": 400, "error_code": "INVALID_PARAMETER_VALUE"}
        if path == "mlflow/model-versions/get":
            return version() if query["version"] == "7" else {"error": 404, "error_code": "RESOURCE_DOES_NOT_EXIST"}
        if path == "mlflow/model-versions/get-download-uri":
            return {"artifact_uri": "mlflow-artifacts:/data/wine"}
        if path == "mlflow-artifacts/artifacts":
            top = [{"path": name, "file_size": len(self.files[name])} for name in ("model.onnx", "model.yaml")]
            inner = [{"path": "a b.py", "is_dir": False, "file_size": "5"}]
            folder = {"path": "code", "is_dir": True}
            return {"files": {"data/wine": [*top, folder], "data/wine/code": inner}.get(query["path"], [])}
        return {"error": 404}


@contextmanager
def registry(wants="", **answers):
    """Serve the API with other answers; yield the environment that leads there."""

    class Changed(Api):
        pass

    Changed.wants, Changed.answers = wants, {PATHS[name]: answer for name, answer in answers.items()}
    with http_servers.served(Changed) as address:
        yield {"MLFLOW_TRACKING_URI": f"http://{address}/prefix/"}


PATHS = {
    "alias": "mlflow/registered-models/alias",
    "version": "mlflow/model-versions/get",
    "location": "mlflow/model-versions/get-download-uri",
    "files": "mlflow-artifacts/artifacts",
}


def get(uri, into, environ):
    return fetch(uri, into, environ=environ, report=lambda _: None)


@pytest.mark.parametrize("uri", ["models:/wine@champion", "models:/wine/7"])
def test_all_files_of_a_version_are_fetched_and_its_number_is_known(tmp_path, uri):
    with registry() as environ:
        fetched = get(uri, tmp_path, environ)
        seen = fingerprint(uri, environ=environ)
    files = {str(path.relative_to(fetched)): path.read_bytes() for path in fetched.rglob("*") if path.is_file()}
    assert files == Api.files
    assert version_of(uri, fetched) == "7"
    assert seen.startswith("7-")


@pytest.mark.parametrize(
    ("given", "header"),
    [
        ({"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "pass:word\n"}, USER),
        ({"MLFLOW_TRACKING_TOKEN": "t0ken\n"}, "Bearer t0ken"),
        (
            {
                "MLFLOW_TRACKING_TOKEN": "t",
                "MLFLOW_TRACKING_USERNAME": "ada",
                "MLFLOW_TRACKING_PASSWORD": "pass:word",
            },
            USER,
        ),
    ],
    ids=["basic", "token", "the user goes before the token, as in MLflow"],
)
def test_credentials_have_mlflows_names(tmp_path, given, header):
    with registry(wants=header) as environ:
        assert (get("models:/wine/7", tmp_path, environ | given) / "model.yaml").exists()
        with pytest.raises(StartError, match="refused a request without credentials") as refused:
            fingerprint("models:/wine/7", environ=environ)
    assert refused.value.reason == "ArtifactAccessDenied"
    assert "READ" in refused.value.hint


def test_a_version_is_another_one_by_what_it_is_made_of_and_not_by_what_is_written_on_it():
    def seen(**more):
        with registry(alias=version(**more)) as environ:
            return fingerprint("models:/wine@champion", environ=environ)

    usual = seen()
    assert seen(description="better", last_updated_timestamp=9, tags=[{"key": "a", "value": "b"}]) == usual
    others = {seen(number="8"), seen(source="x"), seen(run_id="x"), seen(creation_timestamp=5)}
    assert len(others | {usual}) == 5


def test_files_in_a_bucket_are_read_there_with_the_buckets_credentials(tmp_path):
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
        client = boto3.client(
            "s3", endpoint_url=keys["AWS_ENDPOINT_URL"], aws_access_key_id="k", aws_secret_access_key="s"
        )
        client.create_bucket(Bucket="mlflow")
        client.put_object(Bucket="mlflow", Key="7/artifacts/model.onnx", Body=MODEL)
        for number, place in enumerate(("s3://mlflow/7/artifacts", "s3://mlflow/7/artifacts/model.onnx")):
            with registry(location={"artifact_uri": place}) as environ:
                fetched = get("models:/wine@champion", tmp_path / str(number), environ | keys)
            assert (fetched / "model.onnx").read_bytes() == MODEL
            assert version_of("models:/wine@champion", fetched) == "7"
        client.close()
    finally:
        server.stop()


@pytest.mark.parametrize("scheme", ["abfss", "wasbs"])
def test_azures_addresses_are_read_as_mlflow_writes_them(scheme):
    location = f"{scheme}://models@acme.dfs.core.windows.net/7/artifacts"
    assert stored_at(location, "models:/wine/7", hint="") == "az://acme/models/7/artifacts"


DEEP = b'{"model_version": ' + b"[" * 100_000


@pytest.mark.parametrize(
    ("answers", "reason", "says"),
    [
        ({"alias": b"<html>login</html>"}, "StorageUnavailable", "no answer of MLflow's API"),
        ({"alias": DEEP}, "StorageUnavailable", "no answer of MLflow's API"),
        ({"alias": b'{"model_version": {"version": "\xff"}}'}, "StorageUnavailable", "no answer of MLflow's API"),
        ({"alias": b"{}" + b" " * 2**20}, "ArtifactTooLarge", "more than 1048576 bytes"),
        ({"alias": {}}, "StorageUnavailable", "no answer"),
        ({"alias": version("../../evil")}, "StorageUnavailable", "no answer"),
        ({"alias": version("0")}, "StorageUnavailable", "no answer"),
        ({"alias": version(status="PENDING_REGISTRATION")}, "StorageUnavailable", "version 7 is PENDING_REGISTRATION"),
        ({"alias": version(status="FAILED_REGISTRATION")}, "ArtifactNotFound", "version 7 is FAILED_REGISTRATION"),
        ({"location": {"artifact_uri": 7}}, "StorageUnavailable", "no answer"),
        ({"location": {"artifact_uri": "file:///etc"}}, "SettingsInvalid", "keeps this version at file:, which no"),
        ({"location": {"artifact_uri": "/mlruns/1"}}, "SettingsInvalid", "which no other machine can read"),
        ({"location": {"artifact_uri": "pvc://secrets/x"}}, "SettingsInvalid", "keeps this version at pvc:"),
        ({"location": {"artifact_uri": "models:/wine/7"}}, "SettingsInvalid", "keeps this version at models:"),
        ({"location": {"artifact_uri": "mlflow-artifacts://evil/x"}}, "SettingsInvalid", "another tracking server"),
        ({"files": {}}, "ArtifactNotFound", "no files of this version"),
        ({"files": {"files": [{"path": "../evil"}]}}, "ArtifactCorrupt", "outside the package"),
        ({"files": {"files": [{"path": "/etc/passwd"}]}}, "ArtifactCorrupt", "outside the package"),
        ({"files": {"files": [{"path": ".."}]}}, "ArtifactCorrupt", "outside the package"),
        ({"files": {"files": [{"path": ""}]}}, "ArtifactCorrupt", "outside the package"),
        ({"files": {"files": [{"path": "a", "is_dir": True}]}}, "ArtifactTooLarge", "more than 500 folders"),
        ({"files": {"files": [{"path": "model.onnx", "file_size": 10**15}]}}, "ArtifactTooLarge", "does not fit"),
    ],
)
def test_whatever_a_registry_answers_the_error_says_what_is_wrong(tmp_path, answers, reason, says, monkeypatch):
    monkeypatch.setattr("model_server.storage.transfer.time.sleep", lambda seconds: None)
    with registry(**answers) as environ, pytest.raises(StartError, match=says) as failed:
        get("models:/wine@champion", tmp_path / "in", environ)
    assert failed.value.reason == reason
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(tmp_path / "in")]


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("models:/wine@nobody", "has no model 'wine' with the alias 'nobody'"),
        ("models:/beer@champion", "has no model 'beer' with the alias 'champion'"),
        ("models:/wine/8", "has no version 8 of the model 'wine'"),
        ("models:/wine/Production", "names no version of a registered model"),
        ("models:/wine/latest", "names no version of a registered model"),
        ("models:/wine", "names no version of a registered model"),
        ("models://wine@champion", "'models://wine@champion' names no version of a registered model"),
        ("models:/a/b@champion", "names no version of a registered model"),
        ("models:/m-07cb3207c6f741a59ef512011c302d06", "names no version of a registered model"),
    ],
)
def test_what_nobody_registered_is_named(uri, says):
    with registry() as environ, pytest.raises(StartError, match=says) as failed:
        fingerprint(uri, environ=environ)
    assert failed.value.hint


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "MLFLOW_TRACKING_URI is not set"),
        ({"MLFLOW_TRACKING_URI": "databricks"}, "'databricks', which is no plain web address"),
        ({"MLFLOW_TRACKING_URI": "https://ada:secret@host"}, "'https://host', which is no plain web address"),
        ({"MLFLOW_TRACKING_URI": "https://host", "MLFLOW_TRACKING_TOKEN": "a\nb"}, "characters that no token has"),
    ],
)
def test_an_address_that_is_none_is_refused_without_a_secret(environ, says):
    with pytest.raises(StartError, match=says) as failed:
        fingerprint("models:/wine/7", environ=environ)
    assert failed.value.reason == "SettingsInvalid"
    assert "secret" not in failed.value.message


@pytest.mark.parametrize(
    ("uri", "versions", "loaded"),
    [
        ("models:/wine@champion", "r1 3\nr2 4\n", "models:/wine/3"),
        ("models:/wine@champion", "r2 4\n", "models:/wine@champion"),
        ("models:/wine@champion", "r1 ../3\n", "models:/wine@champion"),
        ("models:/wine@champion", "r1\n\nr1 3 4\n", "models:/wine@champion"),
        ("models:/wine@champion", None, "models:/wine@champion"),
        ("models:/wine/7", "r1 3\n", "models:/wine/7"),
        ("hf://acme/wine@main", "r1 3\n", "hf://acme/wine@main"),
    ],
    ids=[
        "the version that the revision is of",
        "another revision's counts for nothing",
        "a version is a number",
        "other lines are passed over",
        "before anything is known, the alias",
        "a number needs none",
        "another scheme has none",
    ],
)
def test_a_revision_of_an_alias_keeps_its_version(tmp_path, uri, versions, loaded):
    file = tmp_path / "versions"
    if versions is not None:
        file.write_text(versions)
    assert pinned_uri(Settings(storage_uri=uri, revision="r1", registered_versions=file)) == loaded
    assert pinned_uri(Settings(storage_uri=uri, revision="r1")) == uri
