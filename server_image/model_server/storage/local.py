"""`file://`: a file or folder that is already there (a volume, an image layer), used in place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from model_server.errors import (
    ArtifactAccessDenied,
    ArtifactEmpty,
    ArtifactNotFound,
    SettingsInvalid,
    StorageUnavailable,
)
from model_server.package.digest import list_files
from model_server.storage.fingerprints import fingerprint_of
from model_server.storage.progress import Progress
from model_server.storage.uris import local_path

if TYPE_CHECKING:
    from model_server.storage.folder import Folder


def fetch(uri: str, into: Path, *, environ: Mapping[str, str], progress: Progress) -> Path:
    """The path itself: nothing is copied."""
    return checked_path(_path(uri), uri, progress)


def fingerprint(uri: str, *, environ: Mapping[str, str]) -> str:
    """Made of names, sizes and times."""
    return fingerprint_of_files(_path(uri), uri)


def folder(uri: str, environ: Mapping[str, str]) -> Folder:
    """A directory to write to, which is made if it is not there."""
    # Imported only here: most servers write nowhere.
    from model_server.storage.folder import unwritable

    if urlsplit(uri).netloc:
        raise unwritable(uri)
    return folder_at(Path("/") / unquote(local_path(uri)).strip("/"), uri)


def folder_at(path: Path, uri: str) -> Folder:
    """A directory to write to, which is made if it is not there. Raises StorageUnavailable."""
    from obstore.store import LocalStore

    from model_server.storage.folder import Folder

    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageUnavailable(f"{uri} cannot be written: {error.strerror}") from None
    return Folder(LocalStore(path), "", uri)


def _path(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise SettingsInvalid(
            f"storageUri {uri!r} is not a local path", hint="Write three slashes: file:///models/fraud/7"
        )
    return Path(unquote(local_path(uri)))


def fingerprint_of_files(path: Path, uri: str) -> str:
    """The fingerprint of a file, or of all files of a folder. Raises ArtifactNotFound."""
    names = list_files(path) if path.is_dir() else [""]
    try:
        stats = [(name, (path / name).stat()) for name in names]
    except OSError:
        raise ArtifactNotFound(f"{uri} does not exist") from None
    return fingerprint_of((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def checked_path(path: Path, uri: str, progress: Progress) -> Path:
    """The path, if there is something to read. Raises ArtifactNotFound, ArtifactAccessDenied or ArtifactEmpty."""
    try:
        size = path.stat().st_size
    except PermissionError:
        raise ArtifactAccessDenied(
            f"{uri} cannot be read by user {os.getuid()}", hint="Check the volume's fsGroup."
        ) from None
    except OSError:
        raise ArtifactNotFound(f"{uri} does not exist") from None
    if not os.access(path, os.R_OK):
        raise ArtifactAccessDenied(f"{uri} cannot be read by user {os.getuid()}", hint="Check the volume's fsGroup.")
    if path.is_file() and size == 0:
        raise ArtifactEmpty(f"{uri} has no bytes")
    progress.expect(size)
    progress.advance(size)
    return path
