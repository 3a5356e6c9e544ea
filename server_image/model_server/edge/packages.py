"""The packages on disk: the one that serves, the next one, and what is remembered over a restart.

    FOLDER/state.json         the URI, the package that serves, the one that was refused
    FOLDER/packages/N/        one package as it was fetched, with the signature beside it if it is one file

A package is fetched once, into a folder of its own, and is not touched again: what was judged is what is served, and
what a start without network finds.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from model_server.errors import ArtifactNotFound, SettingsInvalid, StorageUnavailable
from model_server.package.digest import digest
from model_server.package.signature import SUFFIX, uri_of_signature
from model_server.storage import fetch, fingerprint
from model_server.storage.private_copy import private_copy
from model_server.storage.redaction import redacted

log = logging.getLogger(__name__)

STATE = "state.json"


class StoredPackage(msgspec.Struct, frozen=True, kw_only=True):
    """A package on disk.

    Attributes:
        number: name of its folder.
        path: where it lies, relative to that folder.
        sha256: its digest when it was fetched.
        source: fingerprint of the object at the URI.
        fetched_at: time in UTC.
    """

    number: int
    path: str
    sha256: str
    source: str
    fetched_at: str


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A package that did not take over; `sha256` is empty when it could not be fetched."""

    source: str
    sha256: str
    message: str


class State(msgspec.Struct, kw_only=True):
    """What is in state.json."""

    uri: str
    kept: StoredPackage | None = None
    refused: Refusal | None = None


class PackageStore:
    """The folder of one `modeldeploy serve`; no other process writes to it."""

    def __init__(self, folder: Path, uri: str, environ: Mapping[str, str], *, is_signed: bool) -> None:
        self._folder = folder
        self._uri = uri
        self._environ = environ
        self._is_signed = is_signed
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _require_ours(folder, folder.stat())
            (folder / "packages").mkdir(exist_ok=True)
            self._lock = (folder / "lock").open("w")
        except OSError as error:
            raise SettingsInvalid(f"{folder} cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise SettingsInvalid(
                f"another modeldeploy serve keeps its package in {folder}", hint="Give each one a folder of its own."
            ) from None
        self.state = self._read()

    def close(self) -> None:
        """Let another process have the folder."""
        self._lock.close()

    def folder_of(self, package: StoredPackage) -> Path:
        """The folder of a package, in which its server has its own files too."""
        return self._folder / "packages" / str(package.number)

    def path_of(self, package: StoredPackage) -> Path:
        """The package itself."""
        return self.folder_of(package) / package.path

    def kept(self) -> StoredPackage | None:
        """The last good package of this URI, if it is still what it was."""
        package = self.state.kept
        if package is None:
            return None
        try:
            found = digest(self.path_of(package))
        except OSError as error:
            found = error.strerror or str(error)
        if found == package.sha256:
            return package
        log.error("the package on disk is not the one that was kept: it is fetched again", extra={"found": found})
        return None

    def look(self) -> str:
        """The fingerprint of what lies at the URI now. Raises StartErrors."""
        return fingerprint(self._uri, environ=self._environ)

    def bring(self, source: str) -> StoredPackage:
        """Fetch what lies at the URI. Raises StartErrors; StorageUnavailable also when it changes meanwhile."""
        number = 1 + max((int(one.name) for one in (self._folder / "packages").glob("[0-9]*")), default=0)
        folder = self._folder / "packages" / str(number)
        try:
            path = self._fetch(folder)
            if self.look() != source:
                raise StorageUnavailable(f"{redacted(self._uri)} changed while it was fetched")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return StoredPackage(
            number=number,
            path=str(path.relative_to(folder)),
            sha256=digest(path),
            source=source,
            fetched_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def keep(self, package: StoredPackage) -> None:
        """Remember that this package is good."""
        self._write(State(uri=self._uri, kept=package))

    def refuse(self, refusal: Refusal) -> None:
        """Remember that this object is not to be tried again."""
        self._write(State(uri=self._uri, kept=self.state.kept, refused=refusal))

    def remove(self, package: StoredPackage) -> None:
        """Delete a package that serves no more."""
        shutil.rmtree(self.folder_of(package), ignore_errors=True)

    def remove_others(self, kept: StoredPackage) -> None:
        """Delete what an earlier process left behind, once there is something to serve."""
        for folder in (self._folder / "packages").iterdir():
            if folder.name != str(kept.number):
                shutil.rmtree(folder, ignore_errors=True)

    def _fetch(self, folder: Path) -> Path:
        def tell(text: str) -> None:
            log.info(text)

        path = fetch(self._uri, folder / "fetched", environ=self._environ, report=tell)
        if not path.is_relative_to(folder):
            # A folder of this machine, which others write to.
            path = private_copy(path, folder / "files")
        if self._is_signed and path.is_file():
            try:
                beside = fetch(uri_of_signature(self._uri), folder / "signature", environ=self._environ, report=tell)
            except ArtifactNotFound:
                return path  # its server says what is missing
            shutil.copyfile(beside, path.with_name(path.name + SUFFIX))
        return path

    def _read(self) -> State:
        try:
            state = msgspec.json.decode((self._folder / STATE).read_bytes(), type=State)
        except (OSError, msgspec.MsgspecError):
            return State(uri=self._uri)
        if state.uri == self._uri:
            return state
        log.warning("the package on disk is of another URI, and is not used", extra={"uri": redacted(state.uri)})
        return State(uri=self._uri)

    def _write(self, state: State) -> None:
        self.state = state
        fresh = self._folder / f"{STATE}.new"
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(state)))
        fresh.replace(self._folder / STATE)


def _require_ours(folder: Path, found: os.stat_result) -> None:
    """Raise SettingsInvalid for a folder in which others could exchange the package that is loaded from it."""
    if found.st_uid != os.geteuid():
        raise SettingsInvalid(f"{folder} belongs to user {found.st_uid}, and this server is user {os.geteuid()}")
    if found.st_mode & stat.S_IWOTH:
        raise SettingsInvalid(
            f"{folder} has the mode {stat.S_IMODE(found.st_mode):o}: others can write to it",
            hint=f"Run chmod o-w {folder}, and look at what lies there before you trust it.",
        )
