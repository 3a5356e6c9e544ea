"""`modeldeploy bake` with a real registry: what is pushed is the same each time, and is served."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import http_servers
import pytest
import registries
import yaml
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from registries import ROBOT, USERS, push_image, push_index, registry, token_service
from typer.testing import CliRunner

from model_server.storage import fetch
from modeldeploy.app import build
from modeldeploy.baking.layer import layer_of
from modeldeploy.baking.reference import parse_image
from modeldeploy.baking.registry import MOST_BYTES, Repository
from modeldeploy.package.digest import files_of, tree_digest
from modeldeploy.requests import Refused

pytestmark = pytest.mark.skipif(bool(registries.missing()), reason=registries.missing() or "-")

MODEL = """
def load_model(path): return 1
def predict(model, inputs): return (inputs[:, 0] > {limit}).astype(int)
"""
METADATA = """
version: "7"
input_features: [{name: a, example: 1}, {name: b, example: 1}]
output_features: [{name: positive, dtype: int64, categories: [0, 1]}]
"""
ROWS = {"instances": [{"a": 1.0, "b": 2.0}, {"a": -1.0, "b": 2.0}]}
BASE_FILES = {"etc/os-release": b"ID=none\n", "models/of-the-base.txt": b"not the package's"}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        push_image(f"{running}/server:1", BASE_FILES)
        yield running


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("other")) as running:
        yield running


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "fraud"
    (folder / "weights").mkdir(parents=True)
    (folder / "model.py").write_text(MODEL.format(limit=0))
    (folder / "model.yaml").write_text(METADATA)
    (folder / "weights" / f"{'long' * 40}-ä.bin").write_bytes(bytes(range(256)) * 9_000)
    (folder / "weights" / "empty").touch()
    return folder


@dataclass(frozen=True)
class Baked:
    """What the command printed."""

    image: str
    sha256: str
    told: str

    @property
    def digest(self) -> str:
        return self.image.rpartition("@")[2]


def bake(folder: Path, base: str, push: str, *options: str) -> Baked:
    done = CliRunner().invoke(build(), ["bake", str(folder), "--base", base, "--push", push, *options])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.stderr
    spec = yaml.safe_load(done.stdout)
    assert spec["model"]["storageUri"] == "file:///models"
    return Baked(spec["server"]["image"], spec["model"]["sha256"], done.stderr)


def opened(name: str) -> Repository:
    return Repository(parse_image(name, "image"), ("", ""), plain_http=False)


def documents(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Manifest and config of an image."""
    with opened(name) as repository:
        found = repository.manifest(repository.image.reference)
        assert found is not None
        manifest = json.loads(found.content)
        return manifest, json.loads(repository.document(manifest["config"]["digest"]))


def unpacked(name: str, into: Path) -> Path:
    """The file system of an image: its layers over each other, as a container runtime lays them."""
    manifest, config = documents(name)
    with opened(name) as repository:
        for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
            content = b"".join(repository.blob(layer["digest"], layer["size"]))
            if layer["mediaType"].endswith("+gzip"):
                content = gzip.decompress(content)
            assert f"sha256:{hashlib.sha256(content).hexdigest()}" == diff_id
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                for member in tar:
                    if member.name.endswith(".wh..wh..opq"):
                        folder = into / Path(member.name).parent
                        shutil.rmtree(folder)
                        folder.mkdir()
                    else:
                        tar.extract(member, into, filter="data")
    return into


def test_the_image_is_served_and_answers_as_the_package_does(
    host: str, package: Path, tmp_path: Path, serve: Callable[..., Any]
) -> None:
    baked = bake(package, f"{host}/server:1", f"{host}/models/fraud:7")
    _, config = documents(baked.image)
    environ = dict(entry.split("=", 1) for entry in config["config"]["Env"])
    root = unpacked(baked.image, tmp_path / "root")
    assert environ == {"PATH": "/usr/bin", "MODEL_SERVER_STORAGE_URI": "file:///models"}
    assert not (root / "models" / "of-the-base.txt").exists()
    uris = {
        "package": package.as_uri(),
        "container": environ["MODEL_SERVER_STORAGE_URI"].replace("///", f"//{root}/"),
        "download": f"oci://{baked.image}",
    }
    servers = {name: serve(uri, sha256=baked.sha256) for name, uri in uris.items()}
    answers = {
        name: server.wait_ready().client.post("/predict", json=ROWS).raise_for_status().json()
        for name, server in servers.items()
    }
    assert answers["package"]["predictions"] == [1, 0]
    assert answers["container"] == answers["download"] == answers["package"]


def test_an_image_that_is_mounted_is_used_in_place(
    host: str, package: Path, tmp_path: Path, serve: Callable[..., Any]
) -> None:
    baked = bake(package, f"{host}/server:1", f"{host}/models/mounted:7")
    root = unpacked(baked.image, tmp_path / "root")
    # Nobody is asked for it: the registry of this name does not exist.
    uri = f"oci://registry.invalid/fraud@{baked.digest}"
    model_dir = tmp_path / "model-dir"
    server = serve(uri, image_dir=root, sha256=baked.sha256, model_dir=model_dir).wait_ready()
    assert server.client.post("/predict", json=ROWS).json()["predictions"] == [1, 0]
    assert [path for path in model_dir.rglob("*") if path.stat().st_size > 1000 and path.is_file()] == []


def test_another_image_than_the_models_is_downloaded_beside_it(host: str, package: Path, tmp_path: Path) -> None:
    """As the data set of an evaluation, in pods that have the model's image mounted."""
    baked = bake(package, f"{host}/server:1", f"{host}/models/data:7")
    (tmp_path / "image" / "models").mkdir(parents=True)
    (tmp_path / "image" / "models" / "model.py").touch()
    environ = {
        "MODEL_SERVER_IMAGE_DIR": str(tmp_path / "image"),
        "MODEL_SERVER_STORAGE_URI": f"oci://registry.invalid/fraud@{baked.digest}",
    }
    fetched = fetch(f"oci://{baked.image}", tmp_path / "into", environ=environ, report=print)
    assert tree_digest(fetched, files_of(fetched)) == baked.sha256


@pytest.mark.parametrize(
    ("files", "settings", "reason"),
    [
        pytest.param({"etc/os-release": "x"}, {}, "FormatUnknown", id="an image without /models"),
        pytest.param({"models/model.py": "x"}, {"sha256": "0" * 64}, "DigestMismatch", id="another package"),
        pytest.param({"models/model.py": "x"}, {}, "ArtifactNotTrusted", id="code that is not pinned"),
    ],
)
def test_a_mounted_image_that_cannot_be_served(
    tmp_path: Path, serve: Callable[..., Any], files: dict[str, str], settings: dict[str, str], reason: str
) -> None:
    for name, text in files.items():
        (tmp_path / "image" / name).parent.mkdir(parents=True)
        (tmp_path / "image" / name).write_text(text)
    server = serve(f"oci://registry.invalid/a@sha256:{'0' * 64}", image_dir=tmp_path / "image", **settings)
    server.wait_exit()
    assert server.termination()["reason"] == reason


def test_the_same_package_and_base_are_the_same_image_byte_for_byte(
    host: str, other: str, package: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy" / "fraud"
    shutil.copytree(package, copy)
    for path in sorted(copy.rglob("*"), reverse=True):
        path.chmod(0o700)
    first = bake(package, f"{host}/server:1", f"{host}/models/fraud:a")
    again = bake(copy, f"{host}/server:1", f"{host}/models/fraud:b")
    elsewhere = bake(package, f"{host}/server:1", f"{other}/fraud:c")
    push_image(f"{other}/mirror/server:2", BASE_FILES)
    mirrored = bake(package, f"{other}/mirror/server:2", f"{other}/fraud:d")
    assert first.digest == again.digest == elsewhere.digest == mirrored.digest
    assert documents(f"{host}/models/fraud:a") == documents(f"{other}/fraud:c")
    (copy / "model.yaml").write_text(METADATA + "description: another\n")
    assert bake(copy, f"{host}/server:1", f"{host}/models/fraud:b").digest != first.digest


def test_what_the_image_says_of_itself(host: str, package: Path) -> None:
    base, _ = documents(f"{host}/server:1")
    baked = bake(package, f"{host}/server:1", f"{host}/models/told:7")
    manifest, config = documents(f"{host}/models/told:7")
    assert manifest["layers"][:-1] == base["layers"]
    assert manifest["layers"][-1]["digest"] == config["rootfs"]["diff_ids"][-1]
    with opened(f"{host}/server:1") as repository:
        named = repository.manifest("1")
    assert named is not None
    assert manifest["annotations"]["org.opencontainers.image.base.digest"] == named.digest
    assert manifest["annotations"]["dev.modeldeploy.package.sha256"] == baked.sha256
    assert config["config"]["Entrypoint"] == ["python", "-m", "model_server"]
    assert config["config"]["User"] == "65532:65532"
    assert config["created"] == "2026-01-02T03:04:05Z"
    assert [entry["created_by"] for entry in config["history"]] == ["COPY / /", "modeldeploy bake fraud"]


def test_an_image_that_was_baked_is_a_base_whose_package_is_replaced(host: str, package: Path, tmp_path: Path) -> None:
    bake(package, f"{host}/server:1", f"{host}/models/fraud:7")
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "model.py").write_text(MODEL.format(limit=9))
    baked = bake(newer, f"{host}/models/fraud:7", f"{host}/models/fraud:8")
    root = unpacked(baked.image, tmp_path / "root")
    assert [path.name for path in (root / "models").iterdir()] == ["model.py"]


def test_a_base_of_dockers_types_becomes_an_image_of_ocis(host: str, package: Path) -> None:
    push_image(f"{host}/docker/server:1", BASE_FILES, docker=True)
    push_image(f"{host}/oci/server:1", BASE_FILES)
    made = bake(package, f"{host}/docker/server:1", f"{host}/models/types:docker")
    manifest, _ = documents(made.image)
    assert {layer["mediaType"].partition("+")[0] for layer in manifest["layers"]} == {
        "application/vnd.oci.image.layer.v1.tar"
    }
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"


def test_of_an_index_the_platform_is_taken(host: str, package: Path) -> None:
    images = {
        f"linux/{one}": push_image(f"{host}/many:{one}", {"etc/machine": one.encode()}, architecture=one)
        for one in ("amd64", "arm64")
    }
    push_index(f"{host}/many:1", images)
    bake(package, f"{host}/many:1", f"{host}/models/many:arm", "--platform", "linux/arm64")
    manifest, config = documents(f"{host}/models/many:arm")
    assert config["architecture"] == "arm64"
    assert manifest["annotations"]["org.opencontainers.image.base.digest"] == images["linux/arm64"].digest
    with pytest.raises(Refused, match=r"no image for linux/riscv64; it has: linux/amd64, linux/arm64"):
        bake(package, f"{host}/many:1", f"{host}/models/many:7", "--platform", "linux/riscv64")


def test_of_several_platforms_an_index_is_made(host: str, package: Path, tmp_path: Path) -> None:
    machines = ("amd64", "arm64")
    images = {
        f"linux/{one}": push_image(f"{host}/both:{one}", {"etc/machine": one.encode()}, architecture=one)
        for one in machines
    }
    push_index(f"{host}/both:1", images)
    private, public = keys(tmp_path, "release")
    wanted = [word for platform in images for word in ("--platform", platform)]
    baked = bake(package, f"{host}/both:1", f"{host}/models/both:7", *wanted, "--sign", private)
    with opened(f"{host}/models/both:7") as repository:
        found = repository.manifest("7")
        assert found is not None
    assert found.digest == baked.digest
    entries = json.loads(found.content)["manifests"]
    assert [one["platform"]["architecture"] for one in entries] == list(machines)
    configs = [documents(f"{host}/models/both@{one['digest']}")[1] for one in entries]
    assert [one["architecture"] for one in configs] == list(machines)
    assert len({one["rootfs"]["diff_ids"][-1] for one in configs}) == 1
    # The signature of the index is one of each of its images; it is a base again.
    again = ("--verify-base", public, "--platform", "linux/arm64")
    assert bake(package, f"{host}/models/both:7", f"{host}/models/both:8", *again).digest
    with pytest.raises(Refused, match=r"is an image for linux/amd64, and linux/arm64 is wanted"):
        bake(package, f"{host}/server:1", f"{host}/models/both:9", *wanted)
    with opened(f"{host}/models/both:9") as repository:
        assert repository.manifest("9") is None


def test_a_base_of_another_architecture_is_refused(host: str, package: Path) -> None:
    push_image(f"{host}/arm:1", BASE_FILES, architecture="arm64")
    with pytest.raises(Refused, match=r"arm:1 is an image for linux/arm64, and linux/amd64 is wanted: .*--platform"):
        bake(package, f"{host}/arm:1", f"{host}/models/arm:7")


def keys(folder: Path, name: str) -> tuple[str, str]:
    """A private key and its public one, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private, public = folder / name, folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return str(private), str(public)


def test_a_signature_is_the_one_that_cosign_looks_for(host: str, package: Path, tmp_path: Path) -> None:
    private, public = keys(tmp_path, "release")
    baked = bake(package, f"{host}/server:1", f"{host}/models/signed:7", "--sign", private)
    # As cosign's specification has it: the tag, the types, the annotation, the payload.
    manifest, _ = documents(f"{host}/models/signed:{baked.digest.replace(':', '-')}.sig")
    [layer] = manifest["layers"]
    assert layer["mediaType"] == "application/vnd.dev.cosign.simplesigning.v1+json"
    with opened(f"{host}/models/signed:7") as repository:
        payload = repository.document(layer["digest"])
    assert json.loads(payload)["critical"] == {
        "identity": {"docker-reference": f"{host}/models/signed"},
        "image": {"docker-manifest-digest": baked.digest},
        "type": "cosign container image signature",
    }
    key = serialization.load_pem_public_key(Path(public).read_bytes())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    signature = base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"])
    key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
    # A second signature joins the first; one more by the same key does not.
    second, _ = keys(tmp_path, "second")
    for one in (private, second, second):
        bake(package, f"{host}/server:1", f"{host}/models/signed:7", "--sign", one)
    manifest, _ = documents(f"{host}/models/signed:{baked.digest.replace(':', '-')}.sig")
    assert len(manifest["layers"]) == 2


def test_a_base_has_to_be_signed_where_that_is_asked_for(host: str, package: Path, tmp_path: Path) -> None:
    private, public = keys(tmp_path, "release")
    _, stranger = keys(tmp_path, "stranger")
    where = f"{host}/models/verified:7"
    with pytest.raises(Refused, match=r"server:1 is not signed: sign it with `cosign sign --key`"):
        bake(package, f"{host}/server:1", where, "--verify-base", public)
    bake(package, f"{host}/server:1", f"{host}/approved/server:1", "--sign", private)
    bake(package, f"{host}/approved/server:1", where, "--verify-base", public)
    with pytest.raises(Refused, match=r"server:1 is signed, and not by the key .*stranger\.pub"):
        bake(package, f"{host}/approved/server:1", where, "--verify-base", stranger)
    # A signature of another image says nothing of this one, wherever somebody copies it to.
    signed, _ = documents(f"{host}/approved/server:1")
    bake(tmp_path / "fraud" / "weights", f"{host}/server:1", f"{host}/approved/server:2")
    with opened(f"{host}/approved/server:1") as repository:
        digests = [repository.manifest(tag) for tag in ("1", "2")]
        assert digests[0] is not None
        assert digests[1] is not None
        theirs = repository.manifest(f"{digests[0].digest.replace(':', '-')}.sig")
        assert theirs is not None
        repository.put_manifest(f"{digests[1].digest.replace(':', '-')}.sig", theirs)
    with pytest.raises(Refused, match="is signed, and not by the key"):
        bake(package, f"{host}/approved/server:2", where, "--verify-base", public)
    assert signed


def test_a_bill_of_materials_is_a_referrer_of_its_image(host: str, package: Path, tmp_path: Path) -> None:
    printed = CliRunner().invoke(build(), ["bom", str(package)]).stdout
    file = tmp_path / "fraud.cdx.json"
    file.write_text(printed)
    where = (f"{host}/server:1", f"{host}/models/listed:7")
    images = [bake(package, *where, "--bom", str(file)) for _ in range(2)]
    # This registry does not list referrers, so that they are listed under a tag, each once.
    with opened(f"{host}/models/listed:7") as repository:
        index = repository.manifest(images[0].digest.replace(":", "-"))
        assert index is not None
        [entry] = json.loads(index.content)["manifests"]
        artifact = repository.manifest(entry["digest"])
        assert artifact is not None
        found = json.loads(artifact.content)
        assert found["subject"]["digest"] == images[0].digest
        assert found["artifactType"] == entry["artifactType"] == "application/vnd.cyclonedx+json"
        assert repository.document(found["layers"][0]["digest"]).decode() == printed
    (package / "model.py").write_text(MODEL.format(limit=1))
    with pytest.raises(Refused, match=rf"is of the package {images[0].sha256[:12]}\.\.\., and this one is"):
        bake(package, *where, "--bom", str(file))
    for text in ("{}", "[" * 100_000, '{"bomFormat": "SPDX"}', ""):
        file.write_text(text)
        with pytest.raises(Refused, match="is no document of CycloneDX"):
            bake(package, *where, "--bom", str(file))


def test_keys_that_cannot_sign_are_refused_before_anything_is_pushed(host: str, package: Path, tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (tmp_path / "ed").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    for path, message in ((tmp_path / "ed", "no key of an elliptic curve"), (tmp_path / "none", "cannot sign")):
        with pytest.raises(Refused, match=message):
            bake(package, f"{host}/server:1", f"{host}/models/unsigned:7", "--sign", str(path))
    with opened(f"{host}/models/unsigned:7") as repository:
        assert repository.manifest("7") is None


def test_a_registry_with_passwords(package: Path, tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "users").write_text(USERS)
    config = tmp_path / "docker"
    config.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(config))
    with registry(folder, {"htpasswd": {"realm": "tests", "path": str(folder / "users")}}) as private:
        push_image(f"{private}/server:1", BASE_FILES, credentials=ROBOT)
        with pytest.raises(Refused, match=rf"refuses GET .*401: sign in with `docker login {private}`"):
            bake(package, f"{private}/server:1", f"{private}/fraud:7")
        secret = base64.b64encode(b"robot:secret").decode()
        (config / "config.json").write_text(json.dumps({"auths": {private: {"auth": secret}}}))
        bake(package, f"{private}/server:1", f"{private}/fraud:7")
        wrong = base64.b64encode(b"robot:wrong").decode()
        (config / "config.json").write_text(json.dumps({"auths": {private: {"auth": wrong}}}))
        with pytest.raises(Refused, match="401"):
            bake(package, f"{private}/server:1", f"{private}/fraud:7")


def test_a_registry_with_a_token_service(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scopes: list[str] = []
    secret = base64.b64encode(b"robot:secret").decode()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    tokens, auth = token_service(tmp_path, scopes)
    with http_servers.served(tokens) as service:
        auth["token"]["realm"] = f"http://{service}/token"
        with registry(tmp_path, auth) as private:
            (tmp_path / "config.json").write_text(json.dumps({"auths": {f"https://{private}/v2/": {"auth": secret}}}))
            push_image(f"{private}/server:1", BASE_FILES, credentials=ROBOT)
            scopes.clear()
            bake(package, f"{private}/server:1", f"{private}/models/fraud:7")
    assert {"repository:server:pull", "repository:models/fraud:pull,push"} <= set(scopes)
    assert not [scope for scope in scopes if "server:pull,push" in scope]


def test_a_credential_helper(package: Path, tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "users").write_text(USERS)
    helper = tmp_path / "docker-credential-tests"
    helper.write_text('#!/bin/sh\ncat > /dev/null\necho \'{"Username": "robot", "Secret": "secret"}\'\n')
    helper.chmod(0o755)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "tests"}))
    with registry(folder, {"htpasswd": {"realm": "tests", "path": str(folder / "users")}}) as private:
        push_image(f"{private}/server:1", BASE_FILES, credentials=ROBOT)
        assert bake(package, f"{private}/server:1", f"{private}/fraud:7").digest
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "absent"}))
    with pytest.raises(Refused, match=r"docker-credential-absent, which is not on the PATH"):
        bake(package, f"{host}/server:1", f"{host}/fraud:7")


@pytest.mark.parametrize(
    ("base", "push", "message"),
    [
        pytest.param("server:1", "{host}/a:7", "--base 'server:1' names no image of a registry", id="no registry"),
        pytest.param("{host}/absent:1", "{host}/a:7", "absent:1 does not exist", id="no such base"),
        pytest.param("{host}/server:1", "127.0.0.1:1/a:7", "127.0.0.1:1 cannot be reached", id="no such registry"),
        pytest.param("{host}/server:1", "{host}/A:7", "names no image", id="a name in capitals"),
    ],
)
def test_what_cannot_be_baked(host: str, package: Path, base: str, push: str, message: str) -> None:
    with pytest.raises(Refused, match=message):
        bake(package, base.format(host=host), push.format(host=host))


def test_content_without_its_digest_is_not_stored(host: str, package: Path) -> None:
    """As when a file changes between the two times that it is read."""
    with opened(f"{host}/models/changing:7") as repository:
        layer = layer_of(package, files_of(package))
        (package / "model.py").write_text(MODEL.format(limit=1))
        with pytest.raises(Refused, match=r"answers PUT .*DIGEST_INVALID"):
            repository.put_blob(layer.digest, layer.size, layer.content)
        assert not repository.has_blob(layer.digest)


class Restarting(http_servers.Handler):
    """A registry that is away for its first requests, and then has nothing."""

    left: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        status = self.left.pop() if self.left else 404
        self.answer(b"", status)


@pytest.mark.parametrize(
    ("statuses", "message"),
    [
        pytest.param([503, 429], "server:1 does not exist", id="for a moment"),
        pytest.param([502] * 9, "answers GET .* with 502", id="for longer"),
    ],
)
def test_a_registry_that_is_away(package: Path, statuses: list[int], message: str) -> None:
    Restarting.left[:] = statuses
    with http_servers.served(Restarting) as away, pytest.raises(Refused, match=message):
        bake(package, f"{away}/server:1", f"{away}/fraud:7")
    assert len(Restarting.left) == max(len(statuses) - 3, 0), "it is asked three times"


class Hostile(http_servers.Handler):
    """A registry that sends more than it says, and asks for passwords elsewhere."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "/large/" in self.path:
            return self.answer(b"{" * (MOST_BYTES + 1))
        if "/other/" in self.path:
            return self.answer(b"{}", content_type="application/vnd.oci.image.manifest.v1+json")
        if "/list/" in self.path:
            return self.answer(b"[" * 100_000)
        challenge = 'Bearer realm="ftp://tokens.example.com/token",service="registry"'
        return self.answer(b"", 401, www_authenticate=challenge)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        pytest.param("large/server:1", "a document of more than 4194304 bytes", id="an endless manifest"),
        pytest.param(f"other/server@sha256:{'0' * 64}", "another manifest than sha256:000", id="another manifest"),
        pytest.param("other/server:1", "its manifest has no 'layers'", id="no layers"),
        pytest.param("list/server:1", "is no JSON object", id="JSON that is nested too deeply"),
        pytest.param("token/server:1", "as its token service, which is not encrypted", id="passwords in the open"),
    ],
)
def test_a_hostile_registry(package: Path, base: str, message: str) -> None:
    with http_servers.served(Hostile) as hostile, pytest.raises(Refused, match=message):
        bake(package, f"{hostile}/{base}", f"{hostile}/fraud:7")
