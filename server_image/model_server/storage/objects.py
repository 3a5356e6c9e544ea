"""Downloads objects from any store that obstore speaks to; the scheme modules build the store."""

from __future__ import annotations

import errno
import re
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
    ArtifactTooLarge,
    ModelServerError,
    StorageUnavailable,
)
from model_server.storage.progress import Progress

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

CONCURRENT_FILES = 8
CHUNK_BYTES = 8 * 2**20

RETRY: RetryConfig = {
    "max_retries": 5,
    "backoff": {"base": 2, "init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=5)},
    "retry_timeout": timedelta(seconds=60),
}


def client_options(*, allow_http: bool) -> ClientConfig:
    """Time limits of every store; plain HTTP only where the endpoint says http://."""
    return {
        "allow_http": allow_http,
        "connect_timeout": timedelta(seconds=5),
        "timeout": timedelta(seconds=300),
    }


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
        with ThreadPoolExecutor(CONCURRENT_FILES, "download") as pool:
            jobs = [
                pool.submit(_download_one, store, meta, root / name if name else root, progress) for name, meta in found
            ]
            for job in jobs:
                job.result()
    except (exceptions.BaseError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise ArtifactTooLarge(
                f"{uri} does not fit into {into}", hint="Give the pod more ephemeral storage."
            ) from None
        raise _translated(error, uri) from None
    return root


def _listing(store: ObjectStore, key: str) -> list[tuple[str, ObjectMeta]]:
    """The object itself under the name "", or the objects below it under their relative names."""
    try:
        return [("", obstore.head(store, key))]
    except FileNotFoundError:
        below = f"{key}/"
        metas = [meta for page in obstore.list(store, prefix=key) for meta in page if meta["path"].startswith(below)]
    found = [(meta["path"].removeprefix(below), meta) for meta in metas]
    if any(".." in PurePosixPath(name).parts for name, _ in found):
        raise ArtifactCorrupt(f"{key} holds an object whose name would be written outside the package")
    return found


def _download_one(store: ObjectStore, meta: ObjectMeta, target: Path, progress: Progress) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    with partial.open("wb") as file:
        for chunk in obstore.get(store, meta["path"]).stream(min_chunk_size=CHUNK_BYTES):
            file.write(chunk)
            progress.advance(len(chunk))
        written = file.tell()
    if written != meta["size"]:
        raise StorageUnavailable(f"{meta['path']} broke off after {written} of {meta['size']} bytes")
    partial.rename(target)


def _translated(error: Exception, uri: str) -> ModelServerError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    # Only objects have exceptions of their own; for a bucket the status is in the text.
    status = re.search(r"status code: (\d{3})", reason)
    code = status.group(1) if status else ""
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
    return StorageUnavailable(f"{uri} could not be read: {reason}")
