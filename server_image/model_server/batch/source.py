"""The files of a batch's input, and reading them from any byte on; `plan.py` lists them, `slices.py` reads them."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from msgspec import Struct
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore

from model_server.errors import InputChanged, InputNotFound, SettingsInvalid, StorageUnavailable, first_line
from model_server.storage import find_source, pvc
from model_server.storage.redaction import redacted
from model_server.storage.uris import local_path

#: The most files of one input: the plan names each.
MOST_FILES = 100_000
#: Bytes of one request to the storage.
BLOCK = 2**20
_WILDCARD = re.compile(r"[*?]")


class InputFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file when the batch began. `rows` are those of each row group of a Parquet file, in order."""

    name: str
    size: int
    version: str
    rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class InputFolder:
    """The place that an input's names are relative to; `pattern` selects among them, and `uri` is for messages.

    `inside`: the folder of this machine that no link may lead out of; None for the objects of a store, which has none.
    """

    store: ObjectStore
    root: str
    pattern: re.Pattern[str]
    uri: str
    inside: Path | None = None

    def files(self) -> list[InputFile]:
        """All files that the URI names, by name. Raises InputNotFound, SettingsInvalid or StorageUnavailable."""
        found: list[InputFile] = []
        try:
            for page in obstore.list(self.store, prefix=self.root or None):
                found += [_input_file(self._name(meta["path"]), meta) for meta in page if self._is_input(meta)]
                if len(found) > MOST_FILES:
                    raise SettingsInvalid(
                        f"{self.uri} has more than {MOST_FILES} files", hint="Split the batch, by folder or by pattern."
                    )
        except (BaseError, OSError) as error:
            if "NotFound" in str(error):
                raise InputNotFound(f"{self.uri} matches no file") from None
            raise StorageUnavailable(f"{self.uri} cannot be listed: {first_line(error)}") from None
        if not found:
            # A file without a byte has no header either: what writes it has failed, or is not done.
            raise InputNotFound(f"{self.uri} matches no file that has content")
        for file in found:
            self._require_inside(file)
        return sorted(found, key=lambda file: file.name)

    def check(self, file: InputFile) -> None:
        """Raise InputChanged where another file lies there now, or none."""
        try:
            meta = obstore.head(self.store, self._path(file.name))
        except FileNotFoundError:
            raise InputChanged(f"{file.name} of {self.uri} was removed after the batch had begun") from None
        except (BaseError, OSError) as error:
            raise StorageUnavailable(f"{self.uri} cannot be read: {first_line(error)}") from None
        if _input_file(file.name, meta) != InputFile(file.name, file.size, file.version):
            raise InputChanged(f"{file.name} of {self.uri} was changed after the batch had begun")

    def open(self, file: InputFile) -> io.BufferedReader:
        """The file, to be read from anywhere. Raises SettingsInvalid for a link; reading raises StorageUnavailable."""
        self._require_inside(file)
        return io.BufferedReader(_RangeFile(self, self._path(file.name), file.size), BLOCK)

    def _require_inside(self, file: InputFile) -> None:
        """Raise SettingsInvalid where a link leads elsewhere: who writes tables may not read this pod's Secrets."""
        if self.inside is not None and not Path("/", self._path(file.name)).resolve().is_relative_to(self.inside):
            raise SettingsInvalid(
                f"{file.name} of {self.uri} is a link that leads out of {self.inside}",
                hint="Put the file there in place of the link, or name the folder that it lies in.",
            )

    def _is_input(self, meta: Mapping[str, Any]) -> bool:
        """Spark's marks (`_SUCCESS`, `.part.crc`), folders with such names, and empty files are none."""
        name = self._name(meta["path"])
        is_hidden = any(part.startswith(("_", ".")) for part in name.split("/"))
        return bool(meta["size"]) and not is_hidden and self.pattern.fullmatch(name) is not None

    def _name(self, path: str) -> str:
        return path.removeprefix(f"{self.root}/") if self.root else path

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if self.root else name


def open_input(uri: str, environ: Mapping[str, str]) -> InputFolder:
    """The files at a URI: a file, all files below a folder, or those that match a pattern with `*`, `**` and `?`.

    Raises InputNotFound where no such folder exists, and SettingsInvalid for a scheme that cannot be listed.
    """
    store, key, inside = _store_of(uri, environ)
    shown = redacted(uri)
    if not key:
        raise SettingsInvalid(f"input {shown!r} names no file", hint="Write s3://bucket/folder or file:///folder.")
    wildcard = _WILDCARD.search(key)
    if wildcard is not None:
        root = key[: wildcard.start()].rpartition("/")[0]
        return InputFolder(store, root, _pattern(key.removeprefix(f"{root}/")), shown, _inside(inside, root))
    try:
        obstore.head(store, key)
    except (FileNotFoundError, BaseError):
        return InputFolder(store, key, re.compile(".+", re.DOTALL), shown, _inside(inside, key))
    root, _, name = key.rpartition("/")
    return InputFolder(store, root, re.compile(re.escape(name)), shown, _inside(inside, root))


def _inside(top: str | None, root: str) -> Path | None:
    """The folder that no link may lead out of: that of the claim, or without one the input's own."""
    return None if top is None else Path("/", top or root).resolve()


def _store_of(uri: str, environ: Mapping[str, str]) -> tuple[ObjectStore, str, str | None]:
    """The store, the key in it, and the folder of the claim: "" without a claim, None for what is not on this machine.

    Raises SettingsInvalid.
    """
    scheme = uri.partition("://")[0]
    if scheme in ("file", "pvc"):
        if scheme == "file" and urlsplit(uri).netloc not in ("", "localhost"):
            raise SettingsInvalid(f"input {uri!r} is not a local path", hint="Write three slashes: file:///tables/day")
        if scheme == "file":
            return LocalStore("/"), unquote(local_path(uri)).strip("/"), ""
        return LocalStore("/"), str(pvc.path_of(uri, environ)).strip("/"), str(pvc.root_of(uri, environ))
    opened = getattr(find_source(uri), "folder", None)
    if opened is None:
        raise SettingsInvalid(
            f"the files of input {redacted(uri)!r} cannot be listed",
            hint="Known: file:///folder, pvc://claim/folder, s3://bucket/prefix, gs://bucket/prefix,"
            " az://account/container/prefix.",
        )
    folder = opened(uri, environ)
    return folder.store, folder.prefix, None


def _pattern(text: str) -> re.Pattern[str]:
    """`*` and `?` stay within a folder, `**` does not."""
    words = {"**/": "(?:.+/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(words.get(part) or re.escape(part) for part in re.split(r"(\*\*/|\*\*|\*|\?)", text)))


def _input_file(name: str, meta: Mapping[str, Any]) -> InputFile:
    return InputFile(name, meta["size"], (meta["e_tag"] or str(meta["last_modified"])).strip('"'))


class _RangeFile(io.RawIOBase):
    """An object as a file that can be sought in: one request for each block."""

    def __init__(self, folder: InputFolder, path: str, size: int) -> None:
        self._folder, self._path, self._size, self._place = folder, path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        end = min(self._place + len(buffer), self._size)
        if end <= self._place:
            return 0
        try:
            content = obstore.get_range(self._folder.store, self._path, start=self._place, end=end)
        except FileNotFoundError:
            raise InputChanged(f"{self._path} of {self._folder.uri} was removed after the batch had begun") from None
        except (BaseError, OSError) as error:
            raise StorageUnavailable(f"{self._folder.uri} cannot be read: {first_line(error)}") from None
        count = len(content)
        buffer[:count] = memoryview(content)
        self._place += count
        return count
