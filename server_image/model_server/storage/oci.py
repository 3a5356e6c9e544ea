"""`oci://registry/name[:tag|@digest]`: files in a container registry, pushed as `oras push` does, or in an image.

The registry's protocol (OCI distribution) is a few web requests: a token, a manifest, its blobs. Credentials
are those of an image pull: a Secret of type kubernetes.io/dockerconfigjson, or `DOCKER_CONFIG`. Registries
on loopback are spoken to without TLS, as Docker does.
Where the model's image is mounted (`MODEL_SERVER_IMAGE_DIR`), its package is used in place, without a request.
https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson

from model_server.errors import (
    ArtifactAccessDenied,
    ArtifactCorrupt,
    SettingsInvalid,
    StorageUnavailable,
)
from model_server.package.archives import ArchiveLimits, unpack
from model_server.package.formats import is_archive
from model_server.storage import oci_layers
from model_server.storage.fingerprints import fingerprint_of
from model_server.storage.local import checked_path
from model_server.storage.progress import Progress
from model_server.storage.transfer import RemoteFile, download
from model_server.storage.web import WebTransport, ask

_IMAGE_DIR, _STORAGE_URI = "MODEL_SERVER_IMAGE_DIR", "MODEL_SERVER_STORAGE_URI"
_TITLE = "org.opencontainers.image.title"
_UNPACK = "io.deis.oras.content.unpack"
_PACKED = "application/vnd.oci.image.layer.v1.tar+gzip"
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json"
)
_URI = re.compile(
    r"^oci://(?P<host>[^/@]+)/(?P<name>[a-z0-9][a-z0-9._/-]*)(:(?P<tag>\w[\w.-]*))?(@(?P<digest>sha256:[0-9a-f]{64}))?$"
)


def fetch(uri: str, into: Path, *, environ: Mapping[str, str], progress: Progress) -> Path:
    """Download the manifest's files, or the image's /models, into `into`; each blob is compared with its digest.

    Nothing is copied where the image is mounted.
    """
    if is_immutable(uri, environ=environ):
        return checked_path(_of(_mounted(Path(environ[_IMAGE_DIR]), uri)), uri, progress)
    with _explained(uri):
        place = _find(uri, environ)
        root = into / PurePosixPath(place.name).name
        layers = oci_layers.layers_of(place.image_manifest(), uri)
        files = [layer for layer in layers if _title(layer)]
        if files:
            _check_titles(files, uri)
            by_name = {_file_of(layer): layer for layer in files}
            place.bring(by_name, root, progress)
            for name, layer in by_name.items():
                if _is_folder(layer):
                    _unpack(root / name, root / _title(layer))
        else:
            names = [str(layer["digest"]).removeprefix("sha256:") for layer in layers]
            place.bring(dict(zip(names, layers, strict=True)), into / ".layers", progress)
            oci_layers.unpack_models(uri, [into / ".layers" / name for name in names], root)
    return _of(root)


def is_immutable(uri: str, *, environ: Mapping[str, str]) -> bool:
    """Whether nobody can change what `fetch` returns: an image that is mounted is read-only, and has its digest.

    The model's image is: a data set of an evaluation may be in another one, which is downloaded.
    """
    return bool(environ.get(_IMAGE_DIR)) and uri == environ.get(_STORAGE_URI)


def fingerprint(uri: str, *, environ: Mapping[str, str]) -> str:
    """The digest of the manifest that the tag names now."""
    with _explained(uri):
        place = _find(uri, environ)
        return fingerprint_of([_digest_of(place.manifest(place.reference))])


def _of(folder: Path) -> Path:
    """The package in a folder: the only file or folder in it, else the folder."""
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 else folder


def _mounted(image: Path, uri: str) -> Path:
    """The folder of the package in a mounted image. Raises FormatUnknown, as for one that is downloaded."""
    folder = image / oci_layers.FOLDER
    if not folder.is_dir() or not any(folder.iterdir()):
        raise oci_layers.no_models(uri)
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """An artifact in a registry that has let us in."""

    uri: str
    base: str
    name: str
    reference: str
    headers: Mapping[str, str]

    def manifest(self, reference: str) -> bytes:
        """A manifest by tag or digest. Raises ArtifactCorrupt when its digest is not the one asked for."""
        found = ask(f"{self.base}/manifests/{reference}", headers={**self.headers, "accept": _MANIFESTS}).body
        if reference.startswith("sha256:") and f"sha256:{_digest_of(found)}" != reference:
            raise ArtifactCorrupt(f"{self.uri}: the registry answered with another manifest")
        return found

    def image_manifest(self) -> bytes:
        """The manifest, or of an index of several the one for this machine."""
        found = self.manifest(self.reference)
        chosen = oci_layers.choose_platform(found, self.uri)
        return self.manifest(chosen) if chosen else found

    def bring(self, layers: Mapping[str, Mapping[str, Any]], root: Path, progress: Progress) -> None:
        """Download layers, by the names of their files below `root`.

        Raises:
            ArtifactCorrupt: the digest of one is not the manifest's.
        """
        files = [
            RemoteFile(
                address=f"{self.base}/blobs/{layer['digest']}",
                name=name,
                size=int(layer["size"]),
                sha256=str(layer["digest"]).removeprefix("sha256:"),
            )
            for name, layer in layers.items()
        ]
        download(WebTransport(headers=self.headers), files, root, self.uri, progress)


def _find(uri: str, environ: Mapping[str, str]) -> _Place:
    match = _URI.match(uri)
    if match is None:
        raise SettingsInvalid(
            f"storageUri {uri!r} names no artifact",
            hint="Write oci://registry/name:tag, or oci://registry/name@sha256:...",
        )
    host, name = match["host"], match["name"]
    base = f"{'http' if _is_loopback(host) else 'https'}://{host}/v2"
    headers = _authorized(base, name, _credentials(host, environ))
    reference = match["digest"] or match["tag"] or "latest"
    return _Place(uri=uri, base=f"{base}/{name}", name=name, reference=reference, headers=headers)


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    try:
        yield
    except ArtifactAccessDenied as error:
        raise ArtifactAccessDenied(
            f"{uri} was refused: {error.message}",
            hint="Name a Secret of type kubernetes.io/dockerconfigjson for this registry in secretName. "
            "Registries refuse names that do not exist as well.",
        ) from None


def _is_loopback(host: str) -> bool:
    return bool(re.match(r"^(localhost|127\.\d+\.\d+\.\d+)(:\d+)?$", host))


def _title(layer: Mapping[str, Any]) -> str:
    """The file's name that `oras push` gives a layer; layers of images have none."""
    return str((layer.get("annotations") or {}).get(_TITLE) or "")


def _check_titles(layers: Iterable[Mapping[str, Any]], uri: str) -> None:
    for path in map(PurePosixPath, map(_title, layers)):
        if path.is_absolute() or ".." in path.parts:
            raise ArtifactCorrupt(f"{uri} holds {str(path)!r}, which would be written outside the package")


def _digest_of(content: bytes) -> str:
    """The sha256 of bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _is_folder(layer: Mapping[str, Any]) -> bool:
    """Whether a layer is a packed folder: clients mark it by an annotation, or by a media type under a plain name."""
    packed = layer.get("mediaType") == _PACKED and not is_archive(_title(layer))
    return packed or layer["annotations"].get(_UNPACK) == "true"


def _file_of(layer: Mapping[str, Any]) -> str:
    return f"{_title(layer)}.tar.gz" if _is_folder(layer) else _title(layer)


def _unpack(file: Path, target: Path) -> None:
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
    answer = ask(f"{base}/", accept=(401, 404))
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
    document = orjson.loads(ask(f"{realm}?{query}", headers=basic).body)
    return {"authorization": f"Bearer {document.get('token') or document.get('access_token')}"}
