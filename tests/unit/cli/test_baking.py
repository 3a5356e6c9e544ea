"""Names of images, the layer of a package, and what a layer makes of an image's documents."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from modeldeploy.baking.image import MANIFEST, Base, bake, blob_of, choose, layers_of
from modeldeploy.baking.layer import Layer, layer_of
from modeldeploy.baking.reference import Image, parse_image
from modeldeploy.package.digest import files_of
from modeldeploy.requests import Refused

DIGEST = f"sha256:{'ab' * 32}"


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("registry.example.com/server:1.2", Image(host="registry.example.com", repository="server", tag="1.2")),
        ("localhost/a/b/c:x", Image(host="localhost", repository="a/b/c", tag="x")),
        ("127.0.0.1:5000/fraud", Image(host="127.0.0.1:5000", repository="fraud")),
        ("[::1]:5000/fraud:7", Image(host="[::1]:5000", repository="fraud", tag="7")),
        (f"a.b/c__d--e.f:7@{DIGEST}", Image(host="a.b", repository="c__d--e.f", tag="7", digest=DIGEST)),
    ],
)
def test_names_of_images(text: str, image: Image) -> None:
    assert parse_image(text, "--base") == image
    assert str(image) == text


@pytest.mark.parametrize(
    "text",
    [
        "server:1",
        "team/server:1",
        "a.b/Server",
        "a.b/c:",
        "a.b/c@sha256:12",
        "https://a.b/c",
        "a.b/../c",
        "a.b/c d",
        "",
    ],
)
def test_what_is_no_name_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(Refused, match=r"--push .* names no image of a registry: write registry\.example\.com/name:tag"):
        parse_image(text, "--push")


@pytest.mark.parametrize(
    ("host", "is_on_loopback"),
    [
        ("localhost:5000", True),
        ("127.1.2.3", True),
        ("[::1]:5", True),
        ("127.0.0.1.example.com", False),
        ("a.b", False),
    ],
)
def test_only_registries_of_this_machine_are_spoken_to_without_tls(host: str, is_on_loopback: bool) -> None:
    assert Image(host=host, repository="a").is_on_loopback is is_on_loopback


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "b" / "c").mkdir(parents=True)
    for name in ("a.txt", "b/c/d.bin", f"b/{'long' * 50}", "ä"):
        (folder / name).write_bytes(name.encode() * 100)
    return folder


def test_a_layer_is_a_tar_archive_of_the_package(package: Path) -> None:
    files = files_of(package)
    layer = layer_of(package, files)
    content = b"".join(layer.content())
    assert layer.size == len(content)
    assert layer.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        members = tar.getmembers()
        assert [one.name for one in members if one.isdir()] == ["models", "models/b", "models/b/c"]
        found = {one.name: tar.extractfile(one).read() for one in members if one.isfile()}  # type: ignore[union-attr]
    assert found.pop("models/.wh..wh..opq") == b""
    assert found == {f"models/{name}": (package / name).read_bytes() for name in files}
    assert {(one.uid, one.gid, one.uname, one.mtime) for one in members} == {(0, 0, "", 0)}
    assert {one.mode for one in members} == {0o644, 0o755}


def test_a_layer_does_not_depend_on_times_modes_and_links(package: Path) -> None:
    before = layer_of(package, files_of(package)).digest
    os.utime(package / "a.txt", (1, 1))
    (package / "a.txt").chmod(0o600)
    (package / "b").rename(package.parent / "elsewhere")
    (package / "b").symlink_to(package.parent / "elsewhere")
    assert layer_of(package, files_of(package)).digest == before
    (package / "a.txt").write_bytes(b"other")
    assert layer_of(package, files_of(package)).digest != before


def test_the_digest_of_a_layer_stays_over_releases(tmp_path: Path) -> None:
    """Another one would push every package again."""
    (tmp_path / "model.txt").write_bytes(b"tree\n")
    assert (
        layer_of(tmp_path, ["model.txt"]).digest
        == "sha256:5dc26ba4dd4dd192043ff9dcf2066ef5b5f66d92e9007b8db1a7fb23b3503803"
    )


def test_files_that_a_layer_cannot_have(tmp_path: Path) -> None:
    (tmp_path / ".wh.model").touch()
    with pytest.raises(Refused, match=r"'\.wh\.model' cannot be in an image"):
        layer_of(tmp_path, files_of(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Refused, match="pipe is no file"):
        layer_of(tmp_path, ["pipe"])


def entry(architecture: str, digest: str = DIGEST, **more: str) -> dict[str, Any]:
    return {"digest": digest, "platform": {"os": "linux", "architecture": architecture, **more}}


@pytest.mark.parametrize(
    ("entries", "platform", "digest"),
    [
        pytest.param([entry("arm64", "other"), entry("amd64")], "linux/amd64", DIGEST, id="the one that is asked for"),
        pytest.param([entry("arm64", variant="v8")], "linux/arm64", DIGEST, id="arm64 is v8"),
        pytest.param([entry("arm", "6", variant="v6"), entry("arm", variant="v7")], "linux/arm/v7", DIGEST, id="v7"),
        pytest.param([entry("amd64"), entry("amd64", "second")], "linux/amd64", DIGEST, id="the first of two"),
        pytest.param([{"digest": "x"}, entry("amd64")], "linux/amd64", DIGEST, id="others have no platform"),
    ],
)
def test_the_image_of_an_index(entries: list[dict[str, Any]], platform: str, digest: str) -> None:
    assert choose({"manifests": entries}, platform, "server:1") == digest


def test_an_index_without_the_platform_lists_what_it_has() -> None:
    attestation = {"digest": "x", "platform": {"os": "unknown", "architecture": "unknown"}}
    index = {"manifests": [entry("arm64"), entry("s390x"), attestation]}
    with pytest.raises(Refused, match=r"no image for linux/amd64; it has: linux/arm64, linux/s390x\. Choose with"):
        choose(index, "linux/amd64", "server:1")


def manifest(*types: str, **more: Any) -> dict[str, Any]:
    layers = [{"mediaType": one, "digest": DIGEST, "size": 3} for one in types]
    return {"config": {"digest": DIGEST}, "layers": layers, **more}


FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({}, "its manifest has no 'layers'", id="an artifact"),
        pytest.param(manifest(), "has no layers", id="an empty one"),
        pytest.param(manifest(FOREIGN), f"a layer of the type {FOREIGN}; known", id="layers from elsewhere"),
        pytest.param(manifest("application/vnd.oci.image.layer.v1.tar", config=[]), "no manifest", id="a broken one"),
        pytest.param(manifest(*["application/vnd.oci.image.layer.v1.tar"] * 127), "127 layers", id="too many"),
    ],
)
def test_what_cannot_be_a_base(given: Mapping[str, Any], message: str) -> None:
    with pytest.raises(Refused, match=message):
        layers_of(given, "server:1")


def test_the_documents_of_a_baked_image() -> None:
    below = manifest("application/vnd.docker.image.rootfs.diff.tar.gzip")
    config = {
        "architecture": "amd64",
        "config": {"Env": ["A=1", "MODEL_SERVER_STORAGE_URI=s3://old"], "Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:1"]},
    }
    base = Base(name="a.b/server:1", manifest=blob_of(MANIFEST, below), config=config)
    layer = Layer(folder=Path(), files=(), digest="sha256:layer", size=9)
    made, stored = bake(base, layer, "f" * 64, "fraud")
    written = json.loads(stored.content)
    assert written["rootfs"]["diff_ids"] == ["sha256:1", "sha256:layer"]
    assert written["config"]["Env"] == ["A=1", "MODEL_SERVER_STORAGE_URI=file:///models"]
    assert written["config"]["Labels"] == {"a": "b", "dev.modeldeploy.package.sha256": "f" * 64}
    layers = json.loads(made.content)["layers"]
    assert [one["mediaType"].rpartition(".")[2] for one in layers] == ["tar+gzip", "tar"]
    assert bake(base, layer, "f" * 64, "fraud") == (made, stored)
    with pytest.raises(Refused, match="another number of layers in its config"):
        bake(Base(name="b", manifest=base.manifest, config={}), layer, "f" * 64, "fraud")
