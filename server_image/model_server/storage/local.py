"""`file://` and `pvc://`: a file or folder that is already there (a volume, an image layer), used in place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from model_server.errors import ArtifactAccessDenied, ArtifactEmpty, ArtifactNotFound, SettingsInvalid
from model_server.storage.progress import Progress

CLAIMS_DIR = "/mnt/claims"


def fetch(uri: str, into: Path, *, environ: Mapping[str, str], progress: Progress) -> Path:
    """The path itself: nothing is copied."""
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise SettingsInvalid(
            f"storageUri {uri!r} is not a local path", hint="Write three slashes: file:///models/fraud/7"
        )
    return _checked(Path(unquote(parts.path)), uri, progress)


def fetch_from_claim(uri: str, into: Path, *, environ: Mapping[str, str], progress: Progress) -> Path:
    """`pvc://claim/path`: the operator mounts the claim below the claims folder."""
    parts = urlsplit(uri)
    if not parts.netloc:
        raise SettingsInvalid(f"storageUri {uri!r} names no claim", hint="Write pvc://claim/path/to/model")
    root = Path(environ.get("MODEL_SERVER_CLAIMS_DIR") or CLAIMS_DIR) / parts.netloc
    path = (root / unquote(parts.path).strip("/")).resolve()
    if not path.is_relative_to(root.resolve()):
        raise SettingsInvalid(f"storageUri {uri!r} leaves its claim", hint="Write pvc://claim/path/to/model")
    return _checked(path, uri, progress)


def _checked(path: Path, uri: str, progress: Progress) -> Path:
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
