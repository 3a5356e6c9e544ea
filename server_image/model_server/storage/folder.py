"""Folders that are written to: the input log's sink and the results of batch prediction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore

from model_server.errors import SettingsInvalid, StorageUnavailable, first_line
from model_server.storage import find_source

_PIECE_BYTES = 2**20


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
            raise StorageUnavailable(f"{self.uri} cannot be listed: {_reason(error)}") from None

    def read(self, name: str) -> bytes:
        """A file's content. Raises StorageUnavailable."""
        try:
            return bytes(obstore.get(self.store, self._path(name)).bytes())
        except (BaseError, OSError) as error:
            raise StorageUnavailable(f"{self.uri}/{name} cannot be read: {_reason(error)}") from None

    def lines(self, name: str, longest: int) -> Iterator[bytes]:
        """A file's lines without their ends, read piece by piece; of one above `longest` bytes the beginning.

        Raises StorageUnavailable.
        """
        left = b""
        try:
            for piece in obstore.get(self.store, self._path(name)).stream(min_chunk_size=_PIECE_BYTES):
                *lines, left = (left + bytes(piece)).split(b"\n")
                yield from lines
                left = left[:longest]
        except (BaseError, OSError) as error:
            raise StorageUnavailable(f"{self.uri}/{name} cannot be read: {_reason(error)}") from None
        if left:
            yield left

    def write(self, name: str, content: bytes) -> None:
        """Write a file. Raises StorageUnavailable."""
        try:
            obstore.put(self.store, self._path(name), content)
        except (BaseError, OSError) as error:
            raise StorageUnavailable(f"{self.uri}/{name} cannot be written: {_reason(error)}") from None

    def write_new(self, name: str, content: bytes) -> bool:
        """Write a file unless there is one of this name; whether it was written. Raises StorageUnavailable."""
        try:
            obstore.put(self.store, self._path(name), content, mode="create")
        except AlreadyExistsError:
            return False
        except (BaseError, OSError) as error:
            raise StorageUnavailable(f"{self.uri}/{name} cannot be written: {_reason(error)}") from None
        return True

    def upload(self, name: str, file: Path) -> None:
        """Write the content of a file of this machine, which appears at once. Raises StorageUnavailable."""
        try:
            obstore.put(self.store, self._path(name), file)
        except (BaseError, OSError) as error:
            raise StorageUnavailable(f"{self.uri}/{name} cannot be written: {_reason(error)}") from None

    def _path(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name


def open_folder(uri: str, environ: Mapping[str, str]) -> Folder:
    """A folder to write to. Raises SettingsInvalid for a scheme that is only read."""
    opened = getattr(find_source(uri), "folder", None)
    if opened is None:
        raise unwritable(uri)
    folder: Folder = opened(uri, environ)
    return folder


def unwritable(uri: str) -> SettingsInvalid:
    """The error for a URI that names no folder which can be written to."""
    return SettingsInvalid(
        f"{uri!r} cannot be written to",
        hint="Known: file:///folder, s3://bucket/prefix, gs://bucket/prefix, az://account/container/prefix.",
    )


def _reason(error: Exception) -> str:
    return first_line(error) or type(error).__name__
