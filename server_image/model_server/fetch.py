"""`python -m model_server fetch FOLDER`: the artifact of a server that is not ours, before that server starts.

The same download as that of a model server: every scheme, the cache, the pin, the signature. An archive is unpacked.
What the artifact is made of concerns the other server, so nothing is loaded here.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from model_server.errors import ArtifactCorrupt, ArtifactTooLarge, StartError
from model_server.loader import require_signature
from model_server.logs import configure
from model_server.package.archives import ArchiveLimits, unpack
from model_server.package.digest import verify_pin
from model_server.package.formats import is_archive
from model_server.settings import Settings, read_settings
from model_server.storage.cache import Cache, obtain
from model_server.storage.pinned import pinned_uri
from model_server.storage.redaction import redacted
from model_server.termination import give_up, termination_file

log = logging.getLogger(__name__)


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Fetch into the folder; 0, or the exit code of a start that failed for the same reason."""
    termination = termination_file(environ)
    try:
        settings = read_settings(environ)
        configure(settings.log_level, {"model": settings.name, "namespace": settings.namespace})
        target = Path(arguments[0])
        _empty(target)
        # Beside the result: a move needs no second copy on the disk.
        with tempfile.TemporaryDirectory(dir=target, prefix=".fetch-") as scratch:
            fetch_into(target, settings, Path(scratch), environ, log.info)
    except StartError as error:
        return give_up(error, termination)
    return 0


def fetch_into(
    target: Path, settings: Settings, scratch: Path, environ: Mapping[str, str], tell: Callable[[str], None]
) -> None:
    """Put the files of the artifact into `target`, in place of what an earlier attempt has left. Raises StartErrors."""
    uri = pinned_uri(settings)
    tell(f"fetching {redacted(uri)}")
    cache = Cache(settings.cache_dir, settings.namespace) if settings.cache_dir else None
    fetched, sha256 = obtain(
        uri, scratch, cache, settings.sha256, environ=environ, tell=tell, is_signed=settings.is_signed
    )
    verify_pin(sha256, settings.sha256, redacted(uri))
    if settings.is_signed:
        require_signature(fetched, settings, scratch, environ, tell)
    root = fetched
    if fetched.is_file() and is_archive(fetched.name):
        root = unpack(fetched, scratch / "unpacked", ArchiveLimits())
    try:
        for entry in list(root.iterdir()) if root.is_dir() else [root]:
            if root.is_relative_to(scratch):
                entry.rename(target / entry.name)
            else:
                _copy(entry, target / entry.name, _boundary(root, settings.claims_dir))
            _let_read(target / entry.name)
    except OSError as error:
        raise ArtifactTooLarge(f"the artifact cannot be written to {target}: {error}") from None
    tell(f"fetched {redacted(uri)}, sha256 {sha256}")


def _boundary(root: Path, claims: Path) -> Path:
    """The folder that links of a package may not leave: its claim, or its own."""
    if root.is_relative_to(claims):
        return (claims / root.relative_to(claims).parts[0]).resolve()
    return (root if root.is_dir() else root.parent).resolve()


def _copy(entry: Path, target: Path, boundary: Path) -> None:
    """Copy what lies in a shared volume. Links are followed, but not to what this container alone may read."""
    if not entry.resolve().is_relative_to(boundary):
        raise ArtifactCorrupt(f"{entry.name} is a link that leads out of the package")
    if entry.is_dir():
        target.mkdir()
        for inner in entry.iterdir():
            _copy(inner, target / inner.name, boundary)
    elif entry.is_file():
        shutil.copy(entry, target)
    else:
        raise ArtifactCorrupt(f"{entry.name} is no regular file")


def _let_read(path: Path) -> None:
    """Let everybody in the pod read: the other server runs as a user of its own, and modes came with the package."""
    mode = path.stat().st_mode
    is_entered = path.is_dir() or mode & 0o100
    path.chmod(mode & 0o777 | (0o555 if is_entered else 0o444))
    if path.is_dir():
        for entry in path.iterdir():
            _let_read(entry)


def _empty(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
