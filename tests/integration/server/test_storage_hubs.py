"""Packages from model hubs and container registries, over real servers that speak their protocols."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import platform
import tarfile
import threading
from typing import ClassVar
from urllib.parse import urlsplit

import http_servers
import pytest

from model_server.errors import StartError
from model_server.storage import fetch, fingerprint

MODEL = bytes(range(256)) * 4_000
COMMIT = "c0ffee" * 6 + "abcd"
USER = base64.b64encode(b"robot:secret").decode()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


class Web(http_servers.Handler):
    """The protocol of both servers."""

    protocol_version = "HTTP/1.1"


#: Where files of one model wait for each other: they arrive only if they are asked for side by side.
TOGETHER = threading.Barrier(2)


class Hub(Web):
    """The Hub's list of files at a revision, and its files; large ones live elsewhere, behind a redirect."""

    files: ClassVar = {
        "model.onnx": MODEL,
        "model.yaml": b"version: 1",
        "old/model.onnx": b"\x08old",
        "../../evil": b"x",
        ".gitattributes": b"",
    }
    lfs: ClassVar = {"model.onnx": sha256(MODEL), "broken.onnx": sha256(b"what was pushed")}

    def do_GET(self):
        parts = urlsplit(self.path).path.strip("/").split("/")
        if parts[0] == "large":
            assert "authorization" not in self.headers, "the token must not follow a redirect"
            return self.answer(MODEL, etag='"m"')
        owner, rest = (parts[2], parts[3:]) if parts[0] == "api" else (parts[0], parts[1:])
        if owner in ("private", "missing") and self.headers.get("authorization") != "Bearer hf_right":
            return self.answer(b"{}", 401)
        if parts[0] == "api":
            return self.listing(*rest)
        name = "/".join(rest[3:])
        assert rest[1:3] == ["resolve", COMMIT]
        if rest[0] == "parallel":
            TOGETHER.wait(20)
            return self.answer(name.encode())
        if name == "model.onnx":
            return self.answer(status=302, location="/large/model.onnx")
        return self.answer(self.files.get(name, b"what came"))

    def listing(self, name, _, revision):
        if revision not in ("main", "v1"):
            return self.answer(b"{}", 404)
        if name == "strange":
            return self.answer(b"<html>")
        names = {
            "fraud": ["model.onnx", "model.yaml", "old/model.onnx"],
            "evil": ["../../evil"],
            "empty": [".gitattributes"],
            "broken": ["broken.onnx"],
            "parallel": ["a.safetensors", "b.safetensors"],
        }[name]
        siblings = []
        for one in names:
            size = len(self.files.get(one, one.encode() if name == "parallel" else b"what came"))
            large = {"lfs": {"sha256": self.lfs[one], "size": size, "pointerSize": 134}} if one in self.lfs else {}
            siblings.append({"rfilename": one, "size": size, "blobId": "0" * 40} | large)
        return self.answer(json.dumps({"id": f"acme/{name}", "sha": COMMIT, "siblings": siblings}).encode())


def tar_of(files, *, mode="w:gz", link=""):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        if link:
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
    return buffer.getvalue()


FOLDER = tar_of({"fraud/model.onnx": MODEL})
BASE = tar_of({"etc/os-release": b"ID=none", "models/model.onnx": b"old", "models/gone.txt": b"x"})
CAR = tar_of({"./models/model.onnx": MODEL, "models/.wh.gone.txt": b"", "models/a/b.txt": b"inner"}, mode="w:")
AGAIN = tar_of({".wh.models": b"", "models/new.onnx": MODEL})
LINKED = tar_of({}, link="models/model.onnx")
CLIMBING = tar_of({"models/../../evil": b"x"})
LAYERS = (MODEL, b"version: 1", FOLDER, BASE, CAR, AGAIN, LINKED, CLIMBING, b"")


def layer(title, content, **more):
    annotations = {"org.opencontainers.image.title": title} if title else {}
    return {
        "digest": f"sha256:{sha256(content)}",
        "size": len(content),
        "annotations": annotations | more,
        "mediaType": "application/octet-stream",
    }


def manifest(*layers):
    media = "application/vnd.oci.image.manifest.v1+json"
    return json.dumps({"schemaVersion": 2, "mediaType": media, "layers": layers}).encode()


def index(**platforms):
    entries = [
        {
            "digest": f"sha256:{sha256(found)}",
            "platform": {"os": name.split("_")[0], "architecture": name.split("_")[1]},
        }
        for name, found in platforms.items()
    ]
    return json.dumps({"schemaVersion": 2, "manifests": entries}).encode()


MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
CARS = manifest(layer("", BASE), layer("", CAR))


class Registry(Web):
    """OCI distribution: a challenge, a token for a scope, manifests, blobs."""

    blobs: ClassVar = {f"sha256:{sha256(one)}": one for one in LAYERS}
    manifests: ClassVar = {
        "one": manifest(layer("model.onnx", MODEL)),
        "two": manifest(layer("model.onnx", MODEL), layer("model.yaml", b"version: 1")),
        "folder": manifest(layer("fraud", FOLDER, **{"io.deis.oras.content.unpack": "true"})),
        "packed": manifest(layer("fraud", FOLDER) | {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}),
        "car": CARS,
        "twice": manifest(layer("", BASE), layer("", CAR), layer("", CAR)),
        "titled-twice": manifest(*[layer("fraud", FOLDER, **{"io.deis.oras.content.unpack": "true"})] * 2),
        "again": manifest(layer("", BASE), layer("", CAR), layer("", AGAIN)),
        "cars": index(**{f"linux_{MACHINE}": CARS, "linux_other": manifest(layer("", AGAIN)), "unknown_unknown": b""}),
        "only": index(linux_other=CARS, unknown_unknown=b""),
        "image": manifest(layer("", FOLDER)),
        "no-tar": manifest(layer("", MODEL)),
        "linked": manifest(layer("", BASE), layer("", LINKED)),
        "climbing": manifest(layer("", CLIMBING)),
        "index": index(linux_s390x=CARS, windows_amd64=CARS),
        "strange": b'{"schemaVersion": 1}',
        "evil": manifest(layer("../../evil", MODEL)),
        "empty": manifest(layer("model.onnx", b"")),
        "changed": manifest({**layer("model.onnx", b"as pushed")}),
    }

    def do_GET(self):
        host = self.headers["host"]
        path = urlsplit(self.path).path
        if path == "/token":
            assert "scope=repository%3Ateam%2F" in self.path
            right = self.headers.get("authorization") == f"Basic {USER}"
            return self.answer(json.dumps({"token": "right" if right else "nobody"}).encode())
        if self.headers.get("authorization") not in ("Bearer right", "Bearer nobody"):
            challenge = f'Bearer realm="http://{host}/token",service="{host}"'
            return self.answer(b"{}", 401, www_authenticate=challenge)
        if path == "/v2/":
            return self.answer(b"{}")
        _, _, _, name, kind, reference = path.split("/")
        if name == "private" and self.headers["authorization"] != "Bearer right":
            return self.answer(b"{}", 403)
        if kind == "blobs":
            return self.answer(self.blobs.get(reference, b"as damaged"))
        found = self.manifests.get(reference) or next(
            (one for one in self.manifests.values() if f"sha256:{sha256(one)}" == reference), None
        )
        return self.answer(found) if found else self.answer(b"{}", 404)


@pytest.fixture(scope="module")
def host(request):
    with http_servers.served(request.param) as address:
        yield address


hub = pytest.mark.parametrize("host", [pytest.param(Hub, id="")], indirect=True)
registry = pytest.mark.parametrize("host", [pytest.param(Registry, id="")], indirect=True)


def pull(uri, into, **environ):
    return fetch(uri, into, environ=environ, report=lambda text: None)


def contents(path):
    if path.is_file():
        return path.read_bytes()
    return {str(one.relative_to(path)): one.read_bytes() for one in sorted(path.rglob("*")) if one.is_file()}


@hub
@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        pytest.param(
            "hf://acme/fraud",
            {"model.onnx": MODEL, "model.yaml": b"version: 1", "old/model.onnx": b"\x08old"},
            id="a repository",
        ),
        pytest.param("hf://acme/fraud@v1/model.onnx", MODEL, id="a file at a revision"),
        pytest.param("hf://acme/fraud:v1/old", {"model.onnx": b"\x08old"}, id="a folder, as KServe writes revisions"),
        pytest.param("hf://private/fraud/model.onnx", MODEL, id="a private model"),
    ],
)
def test_a_model_of_a_hub_is_fetched(host, tmp_path, uri, expected):
    path = pull(uri, tmp_path, HF_ENDPOINT=f"http://{host}", HF_TOKEN="hf_right")
    assert contents(path) == expected


@hub
def test_files_of_a_hub_are_read_side_by_side(host, tmp_path):
    path = pull("hf://acme/parallel", tmp_path, HF_ENDPOINT=f"http://{host}")
    assert contents(path) == {"a.safetensors": b"a.safetensors", "b.safetensors": b"b.safetensors"}


@hub
@pytest.mark.parametrize(
    ("uri", "reason", "message"),
    [
        pytest.param("hf://fraud", "SettingsInvalid", "names no repository", id="no owner"),
        pytest.param("hf://private/fraud", "ArtifactAccessDenied", "was refused", id="no token"),
        pytest.param("hf://acme/fraud@v9", "ArtifactNotFound", "does not exist", id="no such revision"),
        pytest.param("hf://acme/fraud/none.onnx", "ArtifactNotFound", "does not exist", id="no such file"),
        pytest.param("hf://acme/strange", "StorageUnavailable", "no list of files", id="a web page for an answer"),
        pytest.param("hf://acme/evil", "ArtifactCorrupt", "outside the package", id="a name that climbs"),
        pytest.param("hf://acme/empty", "ArtifactEmpty", "no bytes", id="no bytes"),
        pytest.param("hf://acme/broken", "ArtifactCorrupt", "another sha256", id="other bytes than were pushed"),
    ],
)
def test_a_hub_that_does_not_give_the_model_is_told_by_its_reason(host, tmp_path, uri, reason, message):
    with pytest.raises(StartError, match=message) as caught:
        pull(uri, tmp_path / "into", HF_ENDPOINT=f"http://{host}", HF_TOKEN="hf_wrong")
    assert (caught.value.reason, "hf_wrong" in str(caught.value)) == (reason, False)
    assert caught.value.hint
    assert not list(tmp_path.rglob("evil"))


@registry
@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        pytest.param(":one", MODEL, id="one file"),
        pytest.param(":two", {"model.onnx": MODEL, "model.yaml": b"version: 1"}, id="several files"),
        pytest.param(":folder", {"model.onnx": MODEL}, id="a folder"),
        pytest.param(":packed", {"model.onnx": MODEL}, id="a folder, known by its media type"),
        pytest.param(f"@sha256:{sha256(Registry.manifests['one'])}", MODEL, id="by digest"),
        pytest.param(":car", {"model.onnx": MODEL, "a/b.txt": b"inner"}, id="an image's /models"),
        pytest.param(":twice", {"model.onnx": MODEL, "a/b.txt": b"inner"}, id="an image with a layer twice"),
        pytest.param(":titled-twice", {"model.onnx": MODEL}, id="a folder that is listed twice"),
        pytest.param(":again", MODEL, id="an image whose last layer begins anew"),
        pytest.param(":cars", {"model.onnx": MODEL, "a/b.txt": b"inner"}, id="this machine's image of an index"),
        pytest.param(":only", {"model.onnx": MODEL, "a/b.txt": b"inner"}, id="the only image of an index"),
    ],
)
def test_files_in_a_registry_are_fetched(host, tmp_path, reference, expected):
    assert contents(pull(f"oci://{host}/team/fraud{reference}", tmp_path)) == expected


@registry
def test_another_manifest_behind_a_tag_is_another_mark(host):
    def look(tag):
        return fingerprint(f"oci://{host}/team/fraud:{tag}", environ={})

    assert look("one") == look("one") != look("two")


@hub
def test_another_commit_is_another_mark(host, monkeypatch):
    environ = {"HF_ENDPOINT": f"http://{host}"}
    before = fingerprint("hf://acme/fraud", environ=environ)
    assert fingerprint("hf://acme/fraud@v1", environ=environ) == before
    monkeypatch.setitem(globals(), "COMMIT", "beef" * 10)
    assert fingerprint("hf://acme/fraud", environ=environ) != before


@registry
@pytest.mark.parametrize("entry", [{"auth": USER}, {"username": "robot", "password": "secret"}], ids=list)
def test_the_secret_of_an_image_pull_opens_a_registry(host, tmp_path, entry):
    (tmp_path / ".dockerconfigjson").write_text(json.dumps({"auths": {f"https://{host}": entry}}))
    path = pull(f"oci://{host}/team/private:one", tmp_path / "into", MODEL_SERVER_CREDENTIALS_DIR=str(tmp_path))
    assert contents(path) == MODEL


@registry
@pytest.mark.parametrize(
    ("reference", "reason", "message"),
    [
        pytest.param("/Team", "SettingsInvalid", "names no artifact", id="a name in capitals"),
        pytest.param("/team/private:one", "ArtifactAccessDenied", "was refused", id="no credentials"),
        pytest.param("/team/fraud:gone", "ArtifactNotFound", "does not exist", id="no such tag"),
        pytest.param("/team/fraud:image", "FormatUnknown", "without files in /models", id="an image without a model"),
        pytest.param("/team/fraud:no-tar", "ArtifactCorrupt", "cannot be unpacked", id="a layer that is no archive"),
        pytest.param("/team/fraud:linked", "ArchiveUnsafe", "is a link", id="a link in an image"),
        pytest.param("/team/fraud:climbing", "ArchiveUnsafe", "outside the package", id="an image's file that climbs"),
        pytest.param(
            "/team/fraud:index", "FormatUnknown", "linux/s390x, windows/amd64", id="no image for this machine"
        ),
        pytest.param("/team/fraud:strange", "FormatUnknown", "no manifest with layers", id="an old manifest"),
        pytest.param("/team/fraud:evil", "ArtifactCorrupt", "outside the package", id="a title that climbs"),
        pytest.param("/team/fraud:empty", "ArtifactEmpty", "no bytes", id="no bytes"),
        pytest.param("/team/fraud:changed", "ArtifactCorrupt", "another sha256", id="other bytes than were pushed"),
    ],
)
def test_a_registry_that_does_not_give_the_files_is_told_by_its_reason(host, tmp_path, reference, reason, message):
    with pytest.raises(StartError, match=message) as caught:
        pull(f"oci://{host}{reference}", tmp_path / "into")
    assert caught.value.reason == reason
    assert caught.value.hint
    assert not list(tmp_path.rglob("evil"))
