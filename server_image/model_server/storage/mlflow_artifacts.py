"""Files that a tracking server keeps or passes on (`mlflow-artifacts:`); for `mlflow_models.py`.

https://mlflow.org/docs/latest/self-hosting/architecture/artifact-store/
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

import msgspec

from model_server.errors import ArtifactCorrupt, ArtifactNotFound, ArtifactTooLarge, SettingsInvalid
from model_server.storage.mlflow_api import Tracking
from model_server.storage.progress import Progress
from model_server.storage.redaction import redacted
from model_server.storage.transfer import RemoteFile, download
from model_server.storage.web import WebTransport

_API = "mlflow-artifacts/artifacts"
#: A model has some dozens; a server that never ends to list is cut off.
_MOST_FOLDERS, _MOST_FILES = 500, 20_000


class _Entry(msgspec.Struct, frozen=True):
    path: str
    is_dir: bool = False
    file_size: int | str | None = None


class _Listing(msgspec.Struct, frozen=True):
    files: tuple[_Entry, ...] = ()


def proxied_path(location: str, tracking_url: str) -> str | None:
    """The path of `mlflow-artifacts:/path` on the tracking server; None for a location elsewhere.

    Raises SettingsInvalid for one on another tracking server, for which the credentials are not.
    """
    parts = urlsplit(location)
    if parts.scheme != "mlflow-artifacts":
        return None
    if parts.netloc and parts.netloc != urlsplit(tracking_url).netloc:
        raise SettingsInvalid(
            f"the registry keeps this version on another tracking server, {parts.netloc[:256]!r}",
            hint=f"Set MLFLOW_TRACKING_URI to that one, or register the version from {redacted(tracking_url)}.",
        )
    path = location.partition(":")[2]
    return (path.removeprefix(f"//{parts.netloc}") if parts.netloc else path).strip("/")


def read_artifacts(tracking: Tracking, path: str, root: Path, uri: str, progress: Progress) -> None:
    """Download all files below a path of the tracking server to `root`."""
    base = f"{tracking.url}/api/2.0/{_API}"
    files = [
        RemoteFile(address=f"{base}/{quote(f'{path}/{name}')}", name=name, size=size)
        for name, size in _listed(tracking, path, uri)
    ]
    if not files:
        raise ArtifactNotFound(f"{uri}: the registry has no files of this version")
    with tracking.explained():
        download(WebTransport(headers=tracking.headers), files, root, uri, progress)


def _listed(tracking: Tracking, path: str, uri: str) -> list[tuple[str, int | None]]:
    """The names of all files below a path, relative to it, and their sizes. A listing is of one folder."""
    waiting, files, asked = [""], list[tuple[str, int | None]](), 0
    while waiting:
        folder = waiting.pop()
        asked += 1
        answer = tracking.read(_API, {"path": f"{path}/{folder}".rstrip("/")}, _Listing)
        for entry in answer.files:
            name = f"{folder}/{_checked(entry.path, uri)}".lstrip("/")
            if entry.is_dir:
                waiting.append(name)
            else:
                files.append((name, _size(entry.file_size)))
        if asked + len(waiting) > _MOST_FOLDERS or len(files) > _MOST_FILES:
            raise ArtifactTooLarge(
                f"{uri} has more than {_MOST_FOLDERS} folders or {_MOST_FILES} files", hint="No model has so many."
            )
    return files


def _checked(name: str, uri: str) -> str:
    """A name of a listing, which is one segment. Raises ArtifactCorrupt."""
    if PurePosixPath(name).parts != (name,) or name == ".." or "\0" in name:
        raise ArtifactCorrupt(f"{uri} holds {name[:256]!r}, which would be written outside the package")
    return name


def _size(size: int | str | None) -> int | None:
    return int(size) if size is not None and str(size).isdecimal() else None
