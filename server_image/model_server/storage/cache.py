"""One download for many: the workers of a server, and with a cache folder the pods of a node or a volume.

The first process downloads under a lock, the others wait for it. A cache entry is named by the pinned
sha256, so it is right or it is thrown away; without a pin nobody can know what a URI holds today, and
nothing is cached. Others write to a cache, and to the volumes of `pvc://` and `file://`: what is verified there is
copied first, and the copy is loaded. `loader.py` calls `obtain` and `obtain_signature`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from model_server.errors import CacheUnusable
from model_server.package.digest import digest
from model_server.storage import fetch, is_immutable
from model_server.storage.private_copy import private_copy

log = logging.getLogger(__name__)

_DONE = "fetched-to"
_FILES = "files"
_COPY = "copy"
#: Folder of servers that run in no namespace.
_NO_NAMESPACE = "_"


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder that pods share, and the namespace whose part of it this server uses."""

    folder: Path
    namespace: str = ""

    def entry(self, pin: str) -> Path:
        """The folder of a pinned package. Raises CacheUnusable."""
        folder = self.folder / (self.namespace or _NO_NAMESPACE)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
        except OSError as error:
            raise CacheUnusable(
                f"user {os.geteuid()} cannot make {folder}: {error.strerror}",
                hint="Make the folder of spec.model.cache.hostPath writable for this user; a claim is, by fsGroup.",
            ) from None
        _check_ours(folder, found)
        return folder / pin.lower()


def _check_ours(folder: Path, found: os.stat_result) -> None:
    """Raise CacheUnusable for a folder that others can write to."""
    if not stat.S_ISDIR(found.st_mode):
        raise CacheUnusable(f"{folder} is no folder", hint="Remove it: each namespace has a folder of its own there.")
    if found.st_uid != os.geteuid():
        raise CacheUnusable(
            f"{folder} belongs to user {found.st_uid}, and this server is user {os.geteuid()}",
            hint="Find out who made it, and remove it; servers that share a cache run as one user.",
        )
    # kubelet lets the group of `fsGroup`, which is ours, write to a claim.
    is_foreign_group = found.st_gid not in {os.getegid(), *os.getgroups()}
    if found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and is_foreign_group):
        raise CacheUnusable(
            f"{folder} has the mode {stat.S_IMODE(found.st_mode):o} and group {found.st_gid}: others can write to it",
            hint=f"Run chmod go-w {folder}, and look at what lies there before you trust it.",
        )


def obtain(
    uri: str,
    own: Path,
    cache: Cache | None,
    pin: str,
    *,
    environ: Mapping[str, str],
    tell: Callable[[str], None],
    is_signed: bool = False,
) -> tuple[Path, str]:
    """Return the package on disk, and its digest. A pinned or signed one lies below `own`, or is immutable.

    Args:
        own: this server's folder, which its workers share and nobody else can write to.
        cache: a cache of pinned packages.
        pin: the digest that is expected, "" for none. It is for the caller to compare.
        is_signed: whether the caller verifies a signature.
    """
    if cache is not None and pin:
        return _obtain_cached(uri, own, cache.entry(pin), pin.lower(), environ, tell)
    path = _fetch_once(uri, own, environ, tell)
    if (pin or is_signed) and not path.is_relative_to(own) and not is_immutable(uri, environ=environ):
        with _locked(own):
            return _copied(own) or _copy(path, own, tell)
    return path, digest(path)


def obtain_signature(uri: str, own: Path, *, environ: Mapping[str, str], tell: Callable[[str], None]) -> Path:
    """Return a file of few bytes on disk, fetched by one of the workers."""
    return _fetch_once(uri, own / "signature", environ, tell)


def _obtain_cached(
    uri: str, own: Path, entry: Path, pin: str, environ: Mapping[str, str], tell: Callable[[str], None]
) -> tuple[Path, str]:
    with _locked(own):
        if copied := _copied(own):
            return copied
        path, found = _copy(_fetch_once(uri, entry, environ, tell), own, tell)
        if found != pin:
            log.warning("the cached package is not what its name says: fetching it again", extra={"entry": str(entry)})
            with _locked(entry):
                _forget(entry)
            path, found = _copy(_fetch_once(uri, entry, environ, tell), own, tell)
        if found != pin:
            # The pin does not match the source either: others must not find it here.
            with _locked(entry):
                (entry / _DONE).unlink(missing_ok=True)
        return path, found


def _copied(own: Path) -> tuple[Path, str] | None:
    """The copy that another worker of this server made."""
    done = own / _COPY / _DONE
    if not done.exists():
        return None
    path = own / _COPY / _FILES / done.read_text()
    return path, digest(path)


def _copy(path: Path, own: Path, tell: Callable[[str], None]) -> tuple[Path, str]:
    tell("copying the package to this server's own folder")
    (own / _COPY / _DONE).unlink(missing_ok=True)
    copy = private_copy(path, own / _COPY / _FILES)
    (own / _COPY / _DONE).write_text(copy.name)
    return copy, digest(copy)


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
