"""`oci://registry/name[:tag|@digest]`: files that were pushed to a container registry, as `oras push` does.

The registry's protocol (OCI distribution) is a few web requests: a token, a manifest, its blobs. Credentials
are those of an image pull: a Secret of type kubernetes.io/dockerconfigjson, or `DOCKER_CONFIG`. Registries
on loopback are spoken to without TLS, as Docker does.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson

from model_server.errors import (
    ArtifactAccessDenied,
    ArtifactCorrupt,
    ArtifactEmpty,
    FormatUnknown,
    SettingsInvalid,
    StorageUnavailable,
)
from model_server.package.archives import ArchiveLimits, is_archive, unpack
from model_server.package.digest import digest
from model_server.storage import web
from model_server.storage.progress import Progress

_MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
_TITLE = "org.opencontainers.image.title"
_UNPACK = "io.deis.oras.content.unpack"
_PACKED = "application/vnd.oci.image.layer.v1.tar+gzip"
_URI = re.compile(
    r"^oci://(?P<host>[^/@]+)/(?P<name>[a-z0-9][a-z0-9._/-]*)(:(?P<tag>\w[\w.-]*))?(@(?P<digest>sha256:[0-9a-f]{64}))?$"
)
_PUSH = "Push the package's files with `oras push REGISTRY/NAME:TAG model.onnx model.yaml`."


def fetch(uri: str, into: Path, *, environ: Mapping[str, str], progress: Progress) -> Path:
    """Download the manifest's files into `into`; each is compared with its digest."""
    match = _URI.match(uri)
    if match is None:
        raise SettingsInvalid(
            f"storageUri {uri!r} names no artifact",
            hint="Write oci://registry/name:tag, or oci://registry/name@sha256:...",
        )
    host, name = match["host"], match["name"]
    base = f"{'http' if _is_loopback(host) else 'https'}://{host}/v2"
    try:
        headers = _authorized(base, name, _credentials(host, environ))
        reference = match["digest"] or match["tag"] or "latest"
        manifest = web.ask(f"{base}/{name}/manifests/{reference}", headers=headers | {"accept": _MANIFESTS}).body
        root = into / PurePosixPath(name).name
        layers = _layers(manifest, uri, match["digest"] or "")
        for layer in layers:
            _bring(f"{base}/{name}/blobs/{layer['digest']}", layer, root, headers, progress)
    except ArtifactAccessDenied as error:
        raise ArtifactAccessDenied(
            f"{uri} was refused: {error.message}",
            hint="Name a Secret of type kubernetes.io/dockerconfigjson for this registry in secretName. "
            "Registries refuse names that do not exist as well.",
        ) from None
    inside = list(root.iterdir())
    return inside[0] if len(inside) == 1 else root


def _is_loopback(host: str) -> bool:
    return bool(re.match(r"^(localhost|127\.\d+\.\d+\.\d+)(:\d+)?$", host))


def _layers(manifest: bytes, uri: str, pinned: str) -> list[dict[str, Any]]:
    """The blobs that are files, with a name each. Raises for a manifest that is none, or that of an image."""
    if pinned and f"sha256:{_digest_of(manifest)}" != pinned:
        raise ArtifactCorrupt(f"{uri}: the registry answered with another manifest")
    try:
        layers = orjson.loads(manifest)["layers"]
        titled = [one for one in layers if (one.get("annotations") or {}).get(_TITLE)]
        sizes = [int(one["size"]) for one in titled]
        known = all(str(one["digest"]).startswith("sha256:") for one in titled)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise FormatUnknown(f"{uri} is no manifest with layers: an index of several images?", hint=_PUSH) from None
    if not titled or not known:
        raise FormatUnknown(f"{uri} is a container image, and no layer of it is a file with a name", hint=_PUSH)
    if not any(sizes):
        raise ArtifactEmpty(f"{uri} has no bytes")
    for layer in titled:
        path = PurePosixPath(layer["annotations"][_TITLE])
        if path.is_absolute() or ".." in path.parts:
            raise ArtifactCorrupt(f"{uri} holds {str(path)!r}, which would be written outside the package")
    return titled


def _digest_of(content: bytes) -> str:
    """The sha256 of bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _bring(url: str, layer: Mapping[str, Any], root: Path, headers: Mapping[str, str], progress: Progress) -> None:
    target = root / layer["annotations"][_TITLE]
    # Clients mark a packed folder by an annotation, or by a media type under a name that is no archive's.
    packed = layer.get("mediaType") == _PACKED and not is_archive(target)
    is_folder = packed or layer["annotations"].get(_UNPACK) == "true"
    file = target.with_name(f"{target.name}.tar.gz") if is_folder else target
    web.download(url, file, progress, headers=headers)
    if f"sha256:{digest(file)}" != layer["digest"]:
        raise ArtifactCorrupt(f"{target.name} has another sha256 than its manifest says")
    if is_folder:
        unpacked = unpack(file, target.with_name(f"{target.name}.unpacked"), ArchiveLimits())
        unpacked.rename(target)
        file.unlink()
        if unpacked.parent != target.parent:
            unpacked.parent.rmdir()


def _credentials(host: str, environ: Mapping[str, str]) -> str:
    """`user:password` in base64 for this registry, "" for none. Raises SettingsInvalid for a broken file."""
    places = [
        Path(environ.get("MODEL_SERVER_CREDENTIALS_DIR", "/nonexistent")) / ".dockerconfigjson",
        Path(environ.get("DOCKER_CONFIG", "/nonexistent")) / "config.json",
    ]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return ""
    try:
        entries = orjson.loads(path.read_bytes()).get("auths", {})
        found: dict[str, str] = next((entry for name, entry in entries.items() if _host_of(name) == host), {})
        if "username" in found:
            return base64.b64encode(f"{found['username']}:{found['password']}".encode()).decode()
        return str(found.get("auth", ""))
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        raise SettingsInvalid(
            f"{path.name} is no Docker configuration", hint="Make it with: kubectl create secret docker-registry ..."
        ) from None


def _host_of(entry: str) -> str:
    return entry.removeprefix("https://").removeprefix("http://").split("/")[0]


def _authorized(base: str, name: str, credentials: str) -> dict[str, str]:
    """The headers of a pull: asks the registry what it wants, and a token where it wants one."""
    basic = {"authorization": f"Basic {credentials}"} if credentials else {}
    answer = web.ask(f"{base}/", accept=(401, 404))
    challenge = answer.headers.get("www-authenticate", "") if answer.status == 401 else ""
    if not challenge.lower().startswith("bearer "):
        return basic if challenge else {}
    asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = asked.get("realm", "")
    if urlsplit(realm).scheme not in ("https", urlsplit(base).scheme):
        raise StorageUnavailable(f"the registry names {realm!r} as its token service")
    query = urlencode(
        {"scope": f"repository:{name}:pull"} | ({"service": asked["service"]} if "service" in asked else {})
    )
    document = orjson.loads(web.ask(f"{realm}?{query}", headers=basic).body)
    return {"authorization": f"Bearer {document.get('token') or document.get('access_token')}"}
