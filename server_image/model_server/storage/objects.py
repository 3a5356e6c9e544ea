"""Downloads objects from any store that obstore speaks to; the scheme modules build the store."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import obstore
from obstore import exceptions

from model_server.errors import (
    ArtifactAccessDenied,
    ArtifactCorrupt,
    ArtifactEmpty,
    ArtifactNotFound,
    ModelServerError,
    StorageUnavailable,
)
from model_server.storage.authorities import CA_FILE, certificates
from model_server.storage.failures import disk_failure, hint_for
from model_server.storage.fingerprints import fingerprint_of
from model_server.storage.progress import Progress

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

# Memory in use is at most about one chunk for each read, whatever the size of the package.
CONCURRENT_READS = 8
RANGE_BYTES = 32 * 2**20
# Larger ones are put together from what the network gave, which costs a copy of everything.
CHUNK_BYTES = 2**18

RETRY: RetryConfig = {
    "max_retries": 5,
    "backoff": {"base": 2, "init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=5)},
    "retry_timeout": timedelta(seconds=60),
}


def client_options(endpoints: Iterable[str | None], *, verify: bool = True, ca_file: str | None = None) -> ClientConfig:
    """Time limits of every store, and which certificates it trusts; plain HTTP only where an endpoint says http://.

    Raises SettingsInvalid when `ca_file` cannot be read.
    """
    options: ClientConfig = {
        "allow_http": any(endpoint and endpoint.startswith("http://") for endpoint in endpoints),
        "connect_timeout": timedelta(seconds=5),
        "timeout": timedelta(seconds=300),
    }
    if not verify:
        options["allow_invalid_certificates"] = True
    setting = "AWS_CA_BUNDLE" if ca_file else CA_FILE
    if ca_file := ca_file or os.environ.get(CA_FILE):
        options["root_certificate"] = certificates(setting, ca_file)
    return options


def download(store: ObjectStore, key: str, uri: str, into: Path, progress: Progress) -> Path:
    """Fetch the object `key`, or everything below `key/`, and return the file or folder."""
    try:
        found = _listing(store, key)
        if not found:
            raise ArtifactNotFound(f"{uri} does not exist")
        progress.expect(sum(meta["size"] for _, meta in found))
        if all(meta["size"] == 0 for _, meta in found):
            raise ArtifactEmpty(f"{uri} has no bytes")
        root = into / PurePosixPath(key).name
        parts = [_Part(store, meta, root / name if name else root) for name, meta in found]
        with ThreadPoolExecutor(CONCURRENT_READS, "download") as pool:
            jobs = [pool.submit(part.read, start, progress) for part in parts for start in part.begin()]
            for job in jobs:
                job.result()
        for part in parts:
            part.finish()
    except (exceptions.BaseError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise disk_failure(error, uri, into) from None
        raise _translated(error, uri) from None
    return root


def fingerprint(store: ObjectStore, key: str, uri: str) -> str:
    """What `fetch` would read: made of sizes and ETags, or of times where a store has no ETags."""
    try:
        found = _listing(store, key)
    except (exceptions.BaseError, OSError) as error:
        raise _translated(error, uri) from None
    if not found:
        raise ArtifactNotFound(f"{uri} does not exist")
    return fingerprint_of(
        sorted((name, meta["size"], meta["e_tag"] or str(meta["last_modified"])) for name, meta in found)
    )


def _listing(store: ObjectStore, key: str) -> list[tuple[str, ObjectMeta]]:
    """The object itself under the name "", or the objects below it under their relative names."""
    try:
        itself = obstore.head(store, key)
    except FileNotFoundError:
        itself = None
    # An empty one may stand for the folder: stores with real folders show them so.
    if itself is not None and itself["size"]:
        return [("", itself)]
    below = f"{key}/"
    metas = [meta for page in obstore.list(store, prefix=key) for meta in page if meta["path"].startswith(below)]
    found = _without_folders(store, [(meta["path"].removeprefix(below), meta) for meta in metas])
    if any(".." in PurePosixPath(name).parts for name, _ in found):
        raise ArtifactCorrupt(f"{key} holds an object whose name would be written outside the package")
    return found if found or itself is None else [("", itself)]


def _without_folders(store: ObjectStore, found: list[tuple[str, ObjectMeta]]) -> list[tuple[str, ObjectMeta]]:
    """The objects that are files: consoles and file systems mark folders by empty objects whose keys end in a slash.

    The library cuts that slash off. What has something below it is a folder; of other empty objects the store says
    whether they are. Raises ArtifactCorrupt for a name that is a file and a folder.
    """
    folders = {str(parent) for name, _ in found for parent in PurePosixPath(name).parents}
    doubled = next((name for name, meta in found if name in folders and meta["size"]), None)
    if doubled is not None:
        raise ArtifactCorrupt(f"{doubled} is both an object and a folder of objects, which no disk can hold")
    empty = {meta["path"] for name, meta in found if not meta["size"] and name not in folders}
    marked: set[str] = set()
    for parent in {str(PurePosixPath(path).parent) for path in empty}:
        marked |= set(obstore.list_with_delimiter(store, prefix=parent)["common_prefixes"])
    return [(name, meta) for name, meta in found if name not in folders and meta["path"] not in marked]


class _Part:
    """One object on its way to one file: read in ranges side by side, named only when it is whole."""

    def __init__(self, store: ObjectStore, meta: ObjectMeta, target: Path) -> None:
        self._store = store
        self._meta = meta
        self._target = target
        self._partial = target.with_name(f"{target.name}.partial")

    def begin(self) -> range:
        """Make the file in its full size; the starts of the ranges to read."""
        self._target.parent.mkdir(parents=True, exist_ok=True)
        with self._partial.open("wb") as file:
            file.truncate(self._meta["size"])
        return range(0, self._meta["size"], RANGE_BYTES)

    def read(self, start: int, progress: Progress) -> None:
        """Read one range into its place. An object that is replaced meanwhile fails its ETag."""
        end = min(start + RANGE_BYTES, self._meta["size"])
        options: GetOptions = {"range": (start, end)}
        if self._meta["e_tag"]:
            options["if_match"] = self._meta["e_tag"]
        place = start
        with self._partial.open("r+b") as file:
            file.seek(start)
            for chunk in obstore.get(self._store, self._meta["path"], options=options).stream(
                min_chunk_size=CHUNK_BYTES
            ):
                file.write(chunk)
                place += len(chunk)
                progress.advance(len(chunk))
        if place != end:
            raise StorageUnavailable(f"{self._meta['path']} broke off after {place} of {self._meta['size']} bytes")

    def finish(self) -> None:
        """Give the whole file its name."""
        self._partial.rename(self._target)


def _translated(error: Exception, uri: str) -> ModelServerError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    # Only objects have exceptions of their own; for a bucket the status is in the text.
    status = re.search(r"status code: (\d{3})", reason)
    code = status.group(1) if status else ""
    if isinstance(error, exceptions.PreconditionError):
        return StorageUnavailable(f"{uri} was replaced while it was read", hint="The next start reads the new one.")
    if isinstance(error, FileNotFoundError) or code == "404":
        return ArtifactNotFound(f"{uri} does not exist")
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError) or code in (
        "401",
        "403",
    ):
        return ArtifactAccessDenied(
            f"{uri} was refused: {reason}",
            hint="Check the keys of the Secret in secretName, and that they may list and read this path.",
        )
    return StorageUnavailable(f"{uri} could not be read: {reason}", hint=hint_for(str(error)))
