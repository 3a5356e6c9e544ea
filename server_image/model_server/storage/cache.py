"""One download for many: the workers of a server, and with a cache folder the pods of a node or a volume.

The first process downloads under a lock, the others wait for it. A cache entry is named by the pinned
sha256, so it is right or it is thrown away; without a pin nobody can know what a URI holds today, and
nothing is cached. `loader.py` calls `obtain`.
"""

from __future__ import annotations

import fcntl
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from model_server.package.digest import digest
from model_server.storage import fetch

log = logging.getLogger(__name__)

_DONE = "fetched-to"
_FILES = "files"


def obtain(
    uri: str, own: Path, cache: Path | None, pin: str, *, environ: Mapping[str, str], tell: Callable[[str], None]
) -> tuple[Path, str]:
    """The package on disk, and its digest. `own` is this server's folder, `cache` may be shared with others."""
    if cache is None or not pin:
        path = _fetch_once(uri, own, environ, tell)
        return path, digest(path)
    entry = cache / pin.lower()
    path = _fetch_once(uri, entry, environ, tell)
    found = digest(path)
    if found != pin.lower():
        log.warning("the cached package is not what its name says: fetching it again", extra={"entry": str(entry)})
        with _locked(entry):
            _forget(entry)
        path = _fetch_once(uri, entry, environ, tell)
        found = digest(path)
    if found != pin.lower():
        # The pin does not match the source either: others must not find it here.
        with _locked(entry):
            (entry / _DONE).unlink(missing_ok=True)
    return path, found


def _fetch_once(uri: str, folder: Path, environ: Mapping[str, str], tell: Callable[[str], None]) -> Path:
    with _locked(folder):
        done = folder / _DONE
        if done.exists():
            return folder / done.read_text()
        _forget(folder)
        path = fetch(uri, folder / _FILES, environ=environ, report=tell)
        # Relative, because pods may mount the cache at different places.
        done.write_text(str(path.relative_to(folder) if path.is_relative_to(folder) else path))
        return path


def _forget(folder: Path) -> None:
    (folder / _DONE).unlink(missing_ok=True)
    shutil.rmtree(folder / _FILES, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
