"""Where packages come from: one file a scheme, chosen by `fetch`, which `loading.py` calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from model_server.errors import SettingsInvalid
from model_server.storage import azure, gcs, huggingface, local, registry, s3, web
from model_server.storage.progress import Progress


class Fetch(Protocol):
    """Brings what a URI names to disk and returns the file or folder.

    A scheme may return a path outside `into` when nothing has to be copied. Raises ArtifactNotFound,
    ArtifactEmpty, ArtifactAccessDenied or StorageUnavailable.
    """

    def __call__(self, uri: str, into: Path, *, environ: Mapping[str, str], progress: Progress) -> Path: ...


def _fetch_web(uri: str, into: Path, *, environ: Mapping[str, str], progress: Progress) -> Path:
    """A blob URL is Azure's when there are credentials for it; without them it is a plain web address."""
    is_blob = azure.BLOB_HOST.match(uri) and any(name.startswith("AZURE_") for name in environ)
    chosen: Fetch = azure.fetch if is_blob else web.fetch
    return chosen(uri, into, environ=environ, progress=progress)


SCHEMES: Mapping[str, Fetch] = {
    "az": azure.fetch,
    "file": local.fetch,
    "gs": gcs.fetch,
    "hf": huggingface.fetch,
    "http": web.fetch,
    "https": _fetch_web,
    "oci": registry.fetch,
    "pvc": local.fetch_from_claim,
    "s3": s3.fetch,
}


def fetch(uri: str, into: Path, *, environ: Mapping[str, str], report: Callable[[str], None]) -> Path:
    """Bring a package to disk. `report` is told how far it is, in words, a few times a second at most."""
    scheme = urlsplit(uri).scheme
    if scheme not in SCHEMES:
        raise SettingsInvalid(
            f"storageUri {uri!r} has {'the unknown scheme ' + repr(scheme) if scheme else 'no scheme'}",
            hint=f"Known schemes: {', '.join(f'{name}://' for name in sorted(SCHEMES))}.",
        )
    into.mkdir(parents=True, exist_ok=True)
    return SCHEMES[scheme](uri, into, environ=environ, progress=Progress(report))
