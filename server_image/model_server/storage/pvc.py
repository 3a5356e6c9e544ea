"""`pvc://claim/path`: a file or folder of a PersistentVolumeClaim, used in place where the operator mounted it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from model_server.errors import SettingsInvalid
from model_server.storage.local import checked_path, fingerprint_of_files
from model_server.storage.progress import Progress
from model_server.storage.uris import local_path

if TYPE_CHECKING:
    from model_server.storage.folder import Folder

CLAIMS_DIR = "/mnt/claims"


def fetch(uri: str, into: Path, *, environ: Mapping[str, str], progress: Progress) -> Path:
    """The path below the claims folder: nothing is copied."""
    return checked_path(path_of(uri, environ), uri, progress)


def fingerprint(uri: str, *, environ: Mapping[str, str]) -> str:
    """Made of names, sizes and times."""
    return fingerprint_of_files(path_of(uri, environ), uri)


def folder(uri: str, environ: Mapping[str, str]) -> Folder:
    """A folder of the claim to write to, which is made if it is not there."""
    # Imported only here: most servers write nowhere.
    from model_server.storage.local import folder_at

    return folder_at(path_of(uri, environ), uri)


def path_of(uri: str, environ: Mapping[str, str]) -> Path:
    """The path that a URI names where the claim is mounted. Raises SettingsInvalid."""
    root = root_of(uri, environ)
    path = (root / unquote(local_path(uri)).strip("/")).resolve()
    if not path.is_relative_to(root.resolve()):
        raise SettingsInvalid(f"storageUri {uri!r} leaves its claim", hint="Write pvc://claim/path/to/model")
    return path


def root_of(uri: str, environ: Mapping[str, str]) -> Path:
    """The path where the claim of a URI is mounted. Raises SettingsInvalid."""
    claim = uri.partition("://")[2].partition("/")[0]
    if not claim:
        raise SettingsInvalid(f"storageUri {uri!r} names no claim", hint="Write pvc://claim/path/to/model")
    return Path(environ.get("MODEL_SERVER_CLAIMS_DIR") or CLAIMS_DIR) / claim
