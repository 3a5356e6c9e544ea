"""Packages in S3, read from a real S3 protocol server on loopback."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from model_server.errors import StartError
from model_server.package.digest import digest
from model_server.storage import fetch, fingerprint
from modeldeploy.app import build


@dataclass
class Bucket:
    client: Any
    environ: dict[str, str]

    def upload(self, folder: Path, prefix: str) -> None:
        for file in folder.iterdir():
            self.client.put_object(Bucket="models", Key=f"{prefix}/{file.name}", Body=file.read_bytes())


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1"
    )
    client.create_bucket(Bucket="models")
    yield Bucket(client, {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"})
    client.close()
    server.stop()


def test_a_folder_is_downloaded_and_served(serve, bucket, sign):
    bucket.upload(Path(sign.removeprefix("file://")), "sign/1")
    server = serve("s3://models/sign/1", trusted=True, **bucket.environ).wait_ready()
    answer = server.client.post("/predict", json={"instances": [[1, 0], {"a": -1, "secret": 0}]}).json()
    assert answer["predictions"] == [1, 0]


def test_one_object_is_downloaded_and_served(serve, bucket, same):
    bucket.client.put_object(Bucket="models", Key="same/model.onnx", Body=same)
    server = serve("s3://models/same/model.onnx", **bucket.environ).wait_ready()
    answer = server.client.post("/predict", json={"instances": [[1, 2, 3, 4]]}).json()
    assert answer["predictions"] == [[1, 2, 3, 4]]


def test_what_the_command_line_uploads_is_what_is_fetched(bucket, tmp_path, monkeypatch):
    folder = tmp_path / "package"
    (folder / "below").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(random.Random(1).randbytes(12_000_000))
    (folder / "below" / "labels.txt").write_text("a b")
    for name, value in bucket.environ.items():
        monkeypatch.setenv(name, value)
    said = CliRunner().invoke(build(), ["package", str(folder), "--upload", "s3://models/uploaded/1"])
    path = fetch("s3://models/uploaded/1", tmp_path / "into", environ=bucket.environ, report=lambda text: None)
    assert f"sha256: {digest(path)}" in said.stdout
    assert "storageUri: s3://models/uploaded/1" in said.stdout


def test_the_digest_is_the_same_wherever_the_package_is(serve, bucket, sign):
    folder = Path(sign.removeprefix("file://"))
    bucket.upload(folder, "signs")
    remote = serve("s3://models/signs/", trusted=True, **bucket.environ).wait_ready()
    told = remote.client.get("/metrics").text
    assert f'sha256="{digest(folder)}"' in next(
        line for line in told.splitlines() if line.startswith("modeldeploy_model_info{")
    )


def test_a_large_object_is_read_in_ranges_and_arrives_whole(bucket, tmp_path):
    content = random.Random(1).randbytes(70 * 2**20 + 3)
    bucket.client.put_object(Bucket="models", Key="big/weights.bin", Body=content)
    told: list[str] = []
    path = fetch("s3://models/big/weights.bin", tmp_path, environ=bucket.environ, report=told.append)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("uri", ["s3://models/fingerprint_of/model.onnx", "s3://models/fingerprint_of"])
def test_another_object_is_another_mark(bucket, uri):
    marks = []
    for content in (b"one", b"two", b"one"):
        bucket.client.put_object(Bucket="models", Key="fingerprint_of/model.onnx", Body=content)
        marks.append(fingerprint(uri, environ=bucket.environ))
    assert marks[0] == marks[2] != marks[1]
    with pytest.raises(StartError, match="does not exist"):
        fingerprint(f"{uri}-none", environ=bucket.environ)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        pytest.param("s3://models/none", "s3://models/none does not exist", id="no such key"),
        pytest.param("s3://models/can", "s3://models/can does not exist", id="half a name is no prefix"),
        pytest.param("s3://nobucket/x", "s3://nobucket/x", id="no such bucket"),
    ],
)
def test_what_is_not_there_is_permanent(serve, bucket, uri, message):
    server = serve(uri, **bucket.environ)
    assert server.wait_exit() == 65, server.describe()
    told = server.termination()
    assert told["reason"] == "ArtifactNotFound"
    assert message in told["message"]
