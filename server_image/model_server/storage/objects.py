"""The transport of object stores, through obstore; the modules of `s3://`, `gs://` and `az://` build the store."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import obstore
from obstore import exceptions

from model_server.errors import (
    ArtifactAccessDenied,
    ArtifactCorrupt,
    ArtifactNotFound,
    StartError,
    StorageUnavailable,
)
from model_server.storage import transfer
from model_server.storage.authorities import CA_FILE, certificates
from model_server.storage.failures import hint_for, is_of_certificate, lasting
from model_server.storage.fingerprints import fingerprint_of
from model_server.storage.progress import Progress
from model_server.storage.transfer import Content, RemoteFile, replaced, with_attempts

if TYPE_CHECKING:
    from obstore import Bytes, GetOptions, GetResult, ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

# Larger ones are put together from what the network gave, which costs a copy of everything.
CHUNK_BYTES = 2**18

#: Of reading: `transfer` tries again.
NO_RETRY: RetryConfig = {"max_retries": 0}
#: Of writing.
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
    found = with_attempts(lambda: _listing(store, key, uri))
    root = into / PurePosixPath(key).name
    files = [
        RemoteFile(address=meta["path"], name=name, size=meta["size"], version=meta["e_tag"] or "")
        for name, meta in found
    ]
    transfer.download(ObjectTransport(store, uri), files, root, uri, progress)
    return root


@dataclass(frozen=True, slots=True)
class ObjectTransport:
    """Reads objects of a store; `uri` is for errors."""

    store: ObjectStore
    uri: str

    def open(self, address: str, start: int, end: int | None, version: str) -> Content:
        """Send one request; an object that was replaced meanwhile fails its ETag."""
        options: GetOptions = {"range": {"offset": start} if end is None else (start, end)}
        if version:
            options["if_match"] = version
        try:
            result = obstore.get(self.store, address, options=options)
        except (exceptions.BaseError, OSError) as error:
            raise _translated(error, self.uri) from None
        return Content(
            start=result.range[0],
            size=result.meta["size"],
            version=result.meta["e_tag"] or "",
            is_range=True,
            chunks=_chunks(result, self.uri),
            close=lambda: None,
        )


def _chunks(result: GetResult, uri: str) -> Iterator[Bytes]:
    try:
        yield from result.stream(min_chunk_size=CHUNK_BYTES)
    except (exceptions.BaseError, OSError) as error:
        raise _translated(error, uri) from None


def fingerprint(store: ObjectStore, key: str, uri: str) -> str:
    """What `fetch` would read: made of sizes and ETags, or of times where a store has no ETags."""
    found = with_attempts(lambda: _listing(store, key, uri))
    return fingerprint_of(
        sorted((name, meta["size"], meta["e_tag"] or str(meta["last_modified"])) for name, meta in found)
    )


def _listing(store: ObjectStore, key: str, uri: str) -> list[tuple[str, ObjectMeta]]:
    """What there is at a key. Raises ArtifactNotFound and StorageError."""
    try:
        found = _objects(store, key)
    except (exceptions.BaseError, OSError) as error:
        raise _translated(error, uri) from None
    if not found:
        raise ArtifactNotFound(f"{uri} does not exist")
    return found


def _objects(store: ObjectStore, key: str) -> list[tuple[str, ObjectMeta]]:
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


def _translated(error: Exception, uri: str) -> StartError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    # Only objects have exceptions of their own; for a bucket the status is in the text.
    status = re.search(r"status code: (\d{3})", reason)
    code = status.group(1) if status else ""
    if isinstance(error, exceptions.PreconditionError):
        return replaced(uri)
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
    failure = StorageUnavailable(f"{uri} could not be read: {reason}", hint=hint_for(str(error)))
    return lasting(failure) if is_of_certificate(str(error)) else failure
