"""Folders that are written to: the input log's sink and the results of batch prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore

from model_server.errors import SettingsInvalid, StorageUnavailable
from model_server.storage.azure import azure_store
from model_server.storage.gcs import gcs_store
from model_server.storage.s3 import s3_store


@dataclass(frozen=True, slots=True)
class Folder:
    """A prefix of an object store or a directory. A file appears whole: stores and LocalStore both rename."""

    store: ObjectStore
    prefix: str
    uri: str

    def names(self) -> set[str]:
        """The names below it. Raises StorageUnavailable."""
        prefix = f"{self.prefix}/" if self.prefix else ""
        try:
            pages = obstore.list(self.store, prefix=prefix or None)
            return {meta["path"].removeprefix(prefix) for page in pages for meta in page}
        except (BaseError, OSError) as error:
            raise StorageUnavailable(f"{self.uri} cannot be listed: {_first_line(error)}") from None

    def read(self, name: str) -> bytes:
        """A file's content. Raises StorageUnavailable."""
        try:
            return bytes(obstore.get(self.store, self._path(name)).bytes())
        except (BaseError, OSError) as error:
            raise StorageUnavailable(f"{self.uri}/{name} cannot be read: {_first_line(error)}") from None

    def write(self, name: str, content: bytes) -> None:
        """Write a file. Raises StorageUnavailable."""
        try:
            obstore.put(self.store, self._path(name), content)
        except (BaseError, OSError) as error:
            raise StorageUnavailable(f"{self.uri}/{name} cannot be written: {_first_line(error)}") from None

    def _path(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name


def open_folder(uri: str, environ: Mapping[str, str]) -> Folder:
    """A folder to write to. Raises SettingsInvalid for a scheme that is only read."""
    parts = urlsplit(uri)
    prefix = unquote(parts.path).strip("/")
    if parts.scheme == "file" and not parts.netloc:
        folder = Path("/") / prefix
        folder.mkdir(parents=True, exist_ok=True)
        return Folder(LocalStore(folder), "", uri)
    if parts.scheme == "s3" and parts.netloc:
        return Folder(s3_store(parts.netloc, environ), prefix, uri)
    if parts.scheme == "gs" and parts.netloc:
        return Folder(gcs_store(parts.netloc, environ), prefix, uri)
    container, _, below = prefix.partition("/")
    if parts.scheme == "az" and parts.netloc and container:
        return Folder(azure_store(parts.netloc, container, environ), below, uri)
    raise SettingsInvalid(
        f"{uri!r} cannot be written to",
        hint="Known: file:///folder, s3://bucket/prefix, gs://bucket/prefix, az://account/container/prefix.",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
