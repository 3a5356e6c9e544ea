"""Where packages come from: one file a scheme, imported when it is used; `sharing.py` and `polling.py` call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import urlsplit

from model_server.errors import SettingsInvalid, StartError
from model_server.storage.progress import Progress
from model_server.storage.showing import shown


class Source(Protocol):
    """What the module of a scheme has. Both raise ArtifactNotFound, ArtifactAccessDenied, StorageUnavailable ..."""

    def fetch(self, uri: str, into: Path, *, environ: Mapping[str, str], progress: Progress) -> Path:
        """Bring what a URI names to disk and return the file or folder.

        A scheme may return a path outside `into` when nothing has to be copied.
        """

    def mark(self, uri: str, *, environ: Mapping[str, str]) -> str:
        """A short text that is another one when other bytes lie at the URI. Nothing is downloaded for it."""


#: The module of each scheme.
SCHEMES: Mapping[str, str] = {
    "az": "azure",
    "file": "local",
    "gs": "gcs",
    "hf": "huggingface",
    "http": "web",
    "https": "web",
    "oci": "registry",
    "pvc": "claims",
    "s3": "s3",
}


def fetch(uri: str, into: Path, *, environ: Mapping[str, str], report: Callable[[str], None]) -> Path:
    """Bring a package to disk. `report` is told how far it is, in words, a few times a second at most."""
    with _shown_only(uri):
        source = _source(uri, environ)
        into.mkdir(parents=True, exist_ok=True)
        return source.fetch(uri, into, environ=environ, progress=Progress(report))


def mark(uri: str, *, environ: Mapping[str, str]) -> str:
    """What tells whether the object at a URI has changed: made of ETags, sizes, times or commits."""
    with _shown_only(uri):
        return _source(uri, environ).mark(uri, environ=environ)


@contextmanager
def _shown_only(uri: str) -> Iterator[None]:
    """Errors name the URI without what may be secret in it, whichever scheme's module writes them."""
    try:
        yield
    except StartError as error:
        error.message = error.message.replace(uri, shown(uri))
        error.args = (error.message,)
        raise


def _source(uri: str, environ: Mapping[str, str]) -> Source:
    scheme = urlsplit(uri).scheme
    if scheme not in SCHEMES:
        raise SettingsInvalid(
            f"storageUri {uri!r} has {'the unknown scheme ' + repr(scheme) if scheme else 'no scheme'}",
            hint=f"Known schemes: {', '.join(f'{name}://' for name in sorted(SCHEMES))}.",
        )
    name = SCHEMES[scheme]
    if scheme == "https" and any(name.startswith("AZURE_") for name in environ):
        # A blob URL is Azure's when there are credentials for it; without them it is a plain web address.
        from model_server.storage.azure import BLOB_HOST

        name = "azure" if BLOB_HOST.match(uri) else name
    return cast(Source, import_module(f"model_server.storage.{name}"))
