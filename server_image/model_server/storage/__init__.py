"""Where packages come from: one module a scheme, imported when it is used; `cache.py` and `source_watcher.py` call.

Schemes are registered as entry points (`plugins.py`), the built-in ones too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, cast

from model_server.errors import SettingsInvalid, StartError
from model_server.plugins import SOURCES, load, registered
from model_server.storage.progress import Progress
from model_server.storage.redaction import redacted

#: The scheme of MLflow's registry.
_MODELS = "models"


class Source(Protocol):
    """What the module of a scheme has. Both raise ArtifactNotFound, ArtifactAccessDenied, StorageUnavailable ...

    A scheme that can be written to also has `folder(uri, environ)`, which gives a `model_server.storage.folder.Folder`.
    One that gives what nobody can change has `is_immutable(uri, environ)`: a pinned package is not copied then.
    One whose packages have a version outside of them has `version_of(fetched)`, which is told what `fetch` returned.
    """

    def fetch(self, uri: str, into: Path, *, environ: Mapping[str, str], progress: Progress) -> Path:
        """Bring what a URI names to disk and return the file or folder.

        A scheme may return a path outside `into` when nothing has to be copied.
        """

    def fingerprint(self, uri: str, *, environ: Mapping[str, str]) -> str:
        """A short text that is another one when other bytes lie at the URI. Nothing is downloaded for it."""


def fetch(uri: str, into: Path, *, environ: Mapping[str, str], report: Callable[[str], None]) -> Path:
    """Bring a package to disk. `report` is called with the progress in words, twice a second at most."""
    with _shown_only(uri):
        source = find_source(uri)
        into.mkdir(parents=True, exist_ok=True)
        return source.fetch(uri, into, environ=environ, progress=Progress(report))


def fingerprint(uri: str, *, environ: Mapping[str, str]) -> str:
    """What tells whether the object at a URI has changed: made of ETags, sizes, times or commits."""
    with _shown_only(uri):
        return find_source(uri).fingerprint(uri, environ=environ)


@contextmanager
def _shown_only(uri: str) -> Iterator[None]:
    """Errors name the URI without what may be secret in it, whichever scheme's module writes them."""
    try:
        yield
    except StartError as error:
        error.message = error.message.replace(uri, redacted(uri))
        error.args = (error.message,)
        raise


def is_immutable(uri: str, *, environ: Mapping[str, str]) -> bool:
    """Whether nobody can change what `fetch` returns, so that what was verified is what is loaded without a copy."""
    ask = getattr(find_source(uri), "is_immutable", None)
    return ask is not None and bool(ask(uri, environ=environ))


def version_of(uri: str, fetched: Path) -> str:
    """The version that a package has in its registry; "" where it comes from no registry."""
    find = getattr(find_source(uri), "version_of", None)
    return str(find(fetched)) if find is not None else ""


def shown_scheme(name: str) -> str:
    """How a storage URI of a scheme begins: MLflow's own has one slash."""
    return f"{name}:/" if name == _MODELS else f"{name}://"


def find_source(uri: str) -> Source:
    """The module of a URI's scheme. Raises SettingsInvalid that lists the known schemes."""
    scheme, separator, _ = uri.partition(":/" if uri.startswith(f"{_MODELS}:") else "://")
    known = registered(SOURCES)
    if not separator:
        path = f" For a folder of this machine write file://{uri}." if uri.startswith("/") else ""
        raise SettingsInvalid(
            f"storageUri {uri!r} has no scheme",
            hint=f"Known schemes: {', '.join(map(shown_scheme, known))}.{path}",
        )
    if scheme not in known:
        raise SettingsInvalid(
            f"storageUri {uri!r} has the unknown scheme {scheme!r}",
            hint=f"Known schemes: {', '.join(map(shown_scheme, known))}.",
        )
    source = load(known[scheme])
    if not all(callable(getattr(source, name, None)) for name in ("fetch", "fingerprint")):
        raise SettingsInvalid(
            f"{known[scheme].value} is registered for {scheme}://, and has no functions fetch and fingerprint",
            hint="See model_server.storage.Source.",
        )
    return cast(Source, source)
