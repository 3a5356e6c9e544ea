"""A real container registry for tests, Debian's docker-registry, on loopback, and base images to put into it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from free_ports import free_port
from http_servers import Handler
from waiting import wait_until

from modeldeploy.baking.image import CONFIG, INDEX, MANIFEST, Blob, blob_of
from modeldeploy.baking.reference import parse_image
from modeldeploy.baking.registry import Repository

#: `robot:secret`, as `htpasswd -B` writes it.
USERS = "robot:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
ROBOT = ("robot", "secret")


def missing() -> str:
    """Why tests with a registry are skipped; empty where it is installed."""
    return "" if shutil.which("docker-registry") else "docker-registry is not installed"


@contextmanager
def registry(folder: Path, auth: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Serve an empty registry on a free port; yield `host:port`. `auth` is that of its configuration."""
    host = f"127.0.0.1:{free_port()}"
    settings = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": host},
        **({"auth": auth} if auth else {}),
    }
    config = folder / "registry.yml"
    config.write_text(json.dumps(settings))
    log = folder / "registry.log"
    with log.open("wb") as output:
        process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=output, stderr=output)
    try:
        wait_until(lambda: _answers(host) or process.poll() is not None, log.read_text)
        assert process.poll() is None, log.read_text()
        yield host
    finally:
        process.terminate()
        process.wait(10)


def _answers(host: str) -> bool:
    try:
        urllib.request.urlopen(f"http://{host}/v2/", timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


def layer(files: Mapping[str, bytes]) -> bytes:
    """A layer with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def push_image(
    name: str,
    files: Mapping[str, bytes],
    *,
    architecture: str = "amd64",
    env: Sequence[str] = ("PATH=/usr/bin",),
    docker: bool = False,
    credentials: tuple[str, str] = ("", ""),
) -> Blob:
    """Push an image of one layer under a name; return its manifest. `docker`: with the types that `docker push` has."""
    content = layer(files)
    packed = Blob(media_type=f"{MANIFEST.partition('.manifest')[0]}.layer.v1.tar+gzip", content=content)
    unpacked = f"sha256:{hashlib.sha256(gzip.decompress(content)).hexdigest()}"
    config = blob_of(
        CONFIG,
        {
            "architecture": architecture,
            "os": "linux",
            "created": "2026-01-02T03:04:05Z",
            "config": {"Env": list(env), "Entrypoint": ["python", "-m", "model_server"], "User": "65532:65532"},
            "rootfs": {
                "type": "layers",
                "diff_ids": [unpacked],
            },
            "history": [{"created_by": "COPY / /"}],
        },
    )
    types = {"config": config.media_type, "layer": packed.media_type, "manifest": MANIFEST}
    if docker:
        types = {
            "config": "application/vnd.docker.container.image.v1+json",
            "layer": "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "manifest": "application/vnd.docker.distribution.manifest.v2+json",
        }
    manifest = blob_of(
        types["manifest"],
        {
            "schemaVersion": 2,
            "mediaType": types["manifest"],
            "config": {**config.descriptor, "mediaType": types["config"]},
            "layers": [{**packed.descriptor, "mediaType": types["layer"]}],
        },
    )
    image = parse_image(name, "image")
    with Repository(image, credentials, plain_http=False) as repository:
        repository.put_document(packed)
        repository.put_document(config)
        repository.put_manifest(image.reference, manifest)
    return manifest


def push_index(name: str, platforms: Mapping[str, Blob]) -> Blob:
    """Push an index of images that are in the same repository, by their platforms as `linux/amd64`."""
    entries = [
        {**manifest.descriptor, "platform": dict(zip(("os", "architecture"), platform.split("/"), strict=True))}
        for platform, manifest in platforms.items()
    ]
    index = blob_of(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    image = parse_image(name, "image")
    with Repository(image, ("", ""), plain_http=False) as repository:
        repository.put_manifest(image.reference, index)
    return index


def token_service(folder: Path, scopes: list[str]) -> tuple[type[Handler], dict[str, Any]]:
    """A service that gives `robot` tokens for what is asked for, and the registry's settings but for `realm`.

    https://distribution.github.io/distribution/spec/auth/jwt/
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tokens")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "root.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    chain = [base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()]

    def token(asked: Sequence[str]) -> str:
        access = [
            {"type": kind, "name": repository, "actions": actions.split(",")}
            for kind, repository, actions in (scope.split(":") for scope in asked)
        ]
        claims = {
            "iss": "tokens", "sub": "robot", "aud": "registry", "access": access, "jti": str(len(scopes)),
            "iat": int(now.timestamp()), "nbf": int(now.timestamp()) - 60, "exp": int(now.timestamp()) + 600,
        }  # fmt: skip
        parts = [_base64url(json.dumps(one).encode()) for one in ({"typ": "JWT", "alg": "ES256", "x5c": chain}, claims)]
        r, s = decode_dss_signature(key.sign(".".join(parts).encode(), ec.ECDSA(hashes.SHA256())))
        return ".".join([*parts, _base64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))])

    class Tokens(Handler):
        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query).get("scope", [])
            scopes.extend(asked)
            if self.headers.get("authorization") != "Basic " + base64.b64encode(":".join(ROBOT).encode()).decode():
                return self.answer(b"{}", 401)
            return self.answer(json.dumps({"token": token(asked)}).encode())

    settings = {"service": "registry", "issuer": "tokens", "rootcertbundle": str(folder / "root.pem")}
    return Tokens, {"token": settings}


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
