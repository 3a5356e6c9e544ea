"""`hf://owner/name[@revision][/path]`: a model repository of the Hugging Face Hub, or one file or folder of it.

`HF_TOKEN` opens private and gated models, `HF_ENDPOINT` names a mirror. What is needed of the Hub's API is two
requests, the list of files at a commit and a file of it, made without the dozen packages of the Hub's own client.
https://huggingface.co/docs/hub/api
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import orjson

from model_server.errors import (
    ArtifactAccessDenied,
    ArtifactCorrupt,
    ArtifactNotFound,
    SettingsInvalid,
    StorageUnavailable,
)
from model_server.storage.fingerprints import fingerprint_of
from model_server.storage.progress import Progress
from model_server.storage.transfer import RemoteFile, download
from model_server.storage.web import WebTransport, ask

ENDPOINT = "https://huggingface.co"
# `:revision` is how KServe writes it.
_URI = re.compile(r"^hf://(?P<repo>[\w.-]+/[\w.-]+)([@:](?P<revision>[^/]+))?(/(?P<path>.+))?$")


def fetch(uri: str, into: Path, *, environ: Mapping[str, str], progress: Progress) -> Path:
    """Download the files of one commit into `into`: what `revision` names now, whatever is pushed meanwhile."""
    match, hub, headers = _parts(uri, environ)
    repo, inner = match["repo"], match["path"] or ""
    with _explained(uri):
        commit, files = _files(uri, match, hub, headers)
        wanted = _chosen(files, inner)
        if not wanted:
            raise ArtifactNotFound(f"{uri} does not exist")
        root = into / PurePosixPath(inner or repo).name
        address = f"{hub}/{repo}/resolve/{commit}"
        remote = [
            RemoteFile(address=f"{address}/{quote(file.name)}", name=name, size=file.size, sha256=file.sha256)
            for name, file in wanted
        ]
        download(WebTransport(headers=headers), remote, root, uri, progress)
    return root


def fingerprint(uri: str, *, environ: Mapping[str, str]) -> str:
    """The commit that the revision names now."""
    match, hub, headers = _parts(uri, environ)
    with _explained(uri):
        return fingerprint_of([_files(uri, match, hub, headers)[0]])


def _parts(uri: str, environ: Mapping[str, str]) -> tuple[re.Match[str], str, dict[str, str]]:
    """The URI's parts, the Hub's address, and the headers of a request."""
    match = _URI.match(uri.rstrip("/"))
    if match is None:
        raise SettingsInvalid(
            f"storageUri {uri!r} names no repository", hint="Write hf://owner/name, or hf://owner/name@revision/path"
        )
    hub = (environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    token = environ.get("HF_TOKEN") or environ.get("HUGGING_FACE_HUB_TOKEN")
    return match, hub, {"authorization": f"Bearer {token}"} if token else {}


def _files(uri: str, match: re.Match[str], hub: str, headers: Mapping[str, str]) -> tuple[str, list[_File]]:
    revision = quote(match["revision"] or "main", safe="")
    answer = ask(f"{hub}/api/models/{match['repo']}/revision/{revision}?blobs=true", headers=headers)
    return _listing(answer.body, uri)


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    try:
        yield
    except ArtifactAccessDenied:
        raise ArtifactAccessDenied(
            f"{uri} was refused",
            hint="Put HF_TOKEN into the Secret in secretName, and accept the model's terms with that account. "
            "The Hub refuses names that do not exist as well.",
        ) from None


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    # Mirrors may leave it out.
    size: int | None
    # Known for large files only.
    sha256: str


def _listing(body: bytes, uri: str) -> tuple[str, list[_File]]:
    """The commit, and its files. Raises StorageUnavailable for an answer of another shape."""
    try:
        document: dict[str, Any] = orjson.loads(body)
        files = [
            _File(one["rfilename"], one.get("size"), (one.get("lfs") or {}).get("sha256", ""))
            for one in document["siblings"]
        ]
        commit = str(document["sha"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise StorageUnavailable(f"{uri}: the answer is no list of files", hint="Check HF_ENDPOINT.") from None
    strange = next((one.name for one in files if _leaves(one.name)), None)
    if strange:
        raise ArtifactCorrupt(f"{uri} holds {strange!r}, which would be written outside the package")
    return commit, files


def _leaves(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def _chosen(files: list[_File], path: str) -> list[tuple[str, _File]]:
    """The file itself under the name "", or the files below the path under their relative names."""
    exact = [("", file) for file in files if file.name == path]
    below = f"{path}/" if path else ""
    return exact or [(file.name.removeprefix(below), file) for file in files if file.name.startswith(below)]
